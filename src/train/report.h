// report.html: one file that tells a run, with its charts, without scripts or outside requests.
#pragma once

#include <string>

#include "base/result.h"

namespace hadal {

// The page for a run folder, from the files that report_data.h lists; what is missing is left out,
// what is damaged is named. The same files give the same bytes. Every text in them is escaped: what
// a model wrote cannot become markup.
// Errors: kNotFound when the folder is no run.
Result<std::string> RenderReport(const std::string& run_dir);

// Writes it to `path`, or to run_dir/report.html when that is empty; atomic. Returns the path.
Result<std::string> WriteReport(const std::string& run_dir, const std::string& path = "");

}  // namespace hadal
