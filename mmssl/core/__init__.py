"""Objectives, teachers, masks and collapse, for any modality. Imports torch and nothing of a modality."""
