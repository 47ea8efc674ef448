#!/usr/bin/env bash
exec python3 tools/layers.py
