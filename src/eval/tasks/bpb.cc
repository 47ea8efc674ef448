#include "base/file.h"
#include "eval/list_task.h"

namespace hadal::eval::tasks {
namespace {

// Each piece is read alone, so any model's context holds it.
constexpr size_t kPieceBytes = 1000;

Result<std::vector<std::unique_ptr<Task>>> Open(const std::string& path, const std::string&) {
  if (path.empty()) return Error{Code::kInvalid, "name a file: bpb:FILE.txt"};
  const std::string text = TRY(ReadFile(path));
  if (text.empty()) return Error{Code::kInvalid, path + ": empty"};
  std::vector<Item> items;
  for (size_t at = 0; at < text.size();) {
    size_t end = std::min(at + kPieceBytes, text.size());
    // Not inside a character.
    while (end < text.size() && end > at + 1 &&
           (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) {
      --end;
    }
    Item item;
    item.id = std::to_string(at);
    item.choices = {text.substr(at, end - at)};
    items.push_back(std::move(item));
    at = end;
  }
  TaskInfo info;
  info.kind = TaskInfo::Kind::kText;
  info.name = info.family = "bpb:" + path;
  info.votes = false;
  return OneTask(std::move(info), std::move(items),
                 [](const Item&, std::string_view, bool) -> Grade {
                   return {Verdict::kError, {}, {}, "a text is scored, not answered"};
                 });
}

}  // namespace

TaskSource bpb() {
  return {"bpb", "FILE.txt", "Bits per byte of a text, in pieces of 1,000 bytes", Open};
}

}  // namespace hadal::eval::tasks
