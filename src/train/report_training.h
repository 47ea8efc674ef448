// The parts of report.html that show metrics.jsonl.
#pragma once

#include <string>

#include "train/metrics.h"

namespace hadal::internal {

// Loss, throughput, learning rate, gradient norm, and others that the log has. wide: the loss over
// the whole width.
std::string TrainingCharts(const MetricsLog& log, bool wide);
// Expert load by layer and expert in four spans of the run, and by layer over all of it; empty
// without experts.
std::string ExpertCharts(const MetricsLog& log);
// Steps that were skipped and notes.
std::string TrainingNotes(const MetricsLog& log);

}  // namespace hadal::internal
