"""Methods of any modality: the generic joint embedding with a preset a paper, and masked modelling."""
