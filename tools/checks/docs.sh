#!/usr/bin/env bash
exec python3 tools/docs_check.py
