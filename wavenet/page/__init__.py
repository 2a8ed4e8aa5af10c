"""A page in which a model speaks: one HTML file that runs it in a browser, without a network connection."""

from wavenet.page.document import SpeakingModel, build_page
from wavenet.page.packing import pack_model, packing_refusal

__all__ = ["SpeakingModel", "build_page", "pack_model", "packing_refusal"]
