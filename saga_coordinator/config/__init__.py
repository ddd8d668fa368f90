"""Reads what people write: the settings, once, at the start; and YAML and JSON files, strictly."""

from saga_coordinator.config.files import Document, FileFaulty, read_documents, read_json, read_text
from saga_coordinator.config.settings import (
    CONFIG_VARIABLE,
    OPTIONS,
    Option,
    Settings,
    SettingsFaulty,
    load_settings,
    masked_url,
    unknown_variables,
)

__all__ = [
    "CONFIG_VARIABLE",
    "OPTIONS",
    "Document",
    "FileFaulty",
    "Option",
    "Settings",
    "SettingsFaulty",
    "load_settings",
    "masked_url",
    "read_documents",
    "read_json",
    "read_text",
    "unknown_variables",
]
