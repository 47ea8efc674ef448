// The frame of report.html: head, style, sections, tables.
#pragma once

#include <string>
#include <vector>

namespace hadal::internal {

// body: HTML. title: text.
std::string Page(const std::string& title, const std::string& body);

// A section with a heading and, for the list of contents, an id. Empty when `html` is.
std::string Section(const std::string& id, const std::string& heading, const std::string& html);

// head: text, may be empty. rows: HTML. numeric: the columns to align on the right.
std::string Table(const std::vector<std::string>& head,
                  const std::vector<std::vector<std::string>>& rows,
                  const std::vector<bool>& numeric);

// Text from outside, isolated so that its writing direction cannot reorder what stands beside it.
std::string Isolated(const std::string& text);

}  // namespace hadal::internal
