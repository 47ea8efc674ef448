#!/usr/bin/env bash
# What the pages name exists.
exec python3 tools/docs_check.py paths
