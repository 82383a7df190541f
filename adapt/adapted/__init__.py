"""An adapted model: fit it, use it, save it, load it."""

from adapt.adapted.card import score_in
from adapt.adapted.fitting import assemble, begun, fit_model, preset, with_general
from adapt.adapted.loading import load_model, read_model
from adapt.adapted.model import MODEL_FILE, Adapted, check_holds_no_other, merging, model_folder
from adapt.adapted.predictions import PREDICTION_FILES, write_predictions
from adapt.adapted.starting import start_of

__all__ = [
    "MODEL_FILE", "PREDICTION_FILES", "Adapted", "assemble", "begun", "check_holds_no_other", "fit_model", "load_model",
    "merging", "model_folder", "preset", "read_model", "score_in", "start_of", "with_general", "write_predictions",
]  # fmt: skip
