"""An adapted model: fit it, use it, save it, load it."""

from adapt.adapted.card import score_in
from adapt.adapted.fitting import assemble, begun, fit_model, preset, with_general
from adapt.adapted.loading import load_model
from adapt.adapted.model import MODEL_FILE, Adapted, model_folder
from adapt.adapted.predictions import PREDICTION_FILES, write_predictions
from adapt.adapted.starting import start_of

__all__ = [
    "MODEL_FILE", "PREDICTION_FILES", "Adapted", "assemble", "begun", "fit_model", "load_model", "model_folder",
    "preset", "score_in", "start_of", "with_general", "write_predictions",
]  # fmt: skip
