"""Tests of reading files of bars."""
