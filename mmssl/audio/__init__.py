"""Sound: reading, spectra, views, encoders, and the methods that belong to waveforms."""
