"""Warnings of libraries that are meant are left out, all others are told."""

from __future__ import annotations

import logging

import pytest

from hf_asr.cli.warnings import KNOWN, drop_known_warnings


@pytest.mark.parametrize("name", KNOWN)
def test_only_the_known_ones_are_left_out(name: str, caplog: pytest.LogCaptureFixture) -> None:
    drop_known_warnings()
    drop_known_warnings()
    logger = logging.getLogger(name)
    logger.addHandler(caplog.handler)
    try:
        caplog.set_level(logging.WARNING, logger=name)  # others may have silenced the library
        for message in (f"{KNOWN[name][0]} and more", "something else"):
            logger.warning(message)
    finally:
        logger.removeHandler(caplog.handler)
    assert {record.getMessage() for record in caplog.records} == {"something else"}
