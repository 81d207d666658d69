"""Encoders of series beside the dilated convolutions of TS2Vec: `mmssl.timeseries.encoders.build` names all of them."""
