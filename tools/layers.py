#!/usr/bin/env python3
"""Fails when src/A includes src/B and A may not see B, or when CMake links against the arrows."""
import pathlib
import re
import sys

MAY = {
    "base": "", "tensor": "base", "tokenizer": "base", "kernels": "tensor", "formats": "tensor",
    "model": "kernels formats", "data": "tokenizer", "comm": "tensor", "train": "model data comm",
    "infer": "model tokenizer", "eval": "infer data", "cli": "infer train eval",
}


def reach(module):
    return {module}.union(*(reach(m) for m in MAY[module].split()))


bad = []
public = {f"src/{module}/{name}" for module in MAY
          for block in re.findall(r"HDRS([^A-Z]*)", pathlib.Path("src", module, "CMakeLists.txt").read_text())
          for name in block.split()}
for path in sorted(pathlib.Path("src").rglob("*")):
    if path.suffix not in {".h", ".cc", ".cu"}:
        continue
    module = path.parts[1]
    if module not in MAY:
        bad.append(f"{path}: module {module} is not in tools/layers.py")
        continue
    seen = reach(module)
    if path.name.endswith(("_test.cc", "_fuzz.cc", "_bench.cc")):
        seen = seen | {"formats"}  # tests may read files to feed a module
    for number, line in enumerate(path.open(encoding="utf-8"), 1):
        match = re.match(r'#include "(\w+)/', line)
        if match and match[1] in MAY and match[1] not in seen:
            bad.append(f"{path}:{number}: {module} may not include {match[1]}")
        third_party = re.match(r"#include <(nlohmann|pcre2|curl|CLI|openssl|utf8proc|zlib)", line)
        if third_party and str(path) in public:
            bad.append(f"{path}:{number}: outside headers belong in .cc files and internal headers")
for module, arrows in MAY.items():
    lists = pathlib.Path("src", module, "CMakeLists.txt").read_text()
    deps = re.search(r"DEPS ([\w ]+)", lists)
    if sorted((deps[1].split() if deps else [])) != sorted(arrows.split()):
        bad.append(f"src/{module}/CMakeLists.txt: DEPS differ from tools/layers.py: {arrows}")
print("\n".join(bad) or f"{len(MAY)} modules, arrows hold")
sys.exit(bool(bad))
