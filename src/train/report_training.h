// The parts of report.html that show metrics.jsonl.
#pragma once

#include <string>
#include <vector>

#include "train/metrics.h"

namespace hadal::internal {

// Loss, throughput, learning rate, gradient norm, and others that the log has. wide: the loss over
// the whole width.
std::string TrainingCharts(const MetricsLog& log, bool wide);
// The losses of several trainings over the tokens they saw, in one chart each of training and
// validation; the first kSeriesColors are drawn. Empty for less than two.
struct NamedLog {
  std::string name;
  const MetricsLog* log;
};
std::string LossComparison(const std::vector<NamedLog>& logs);
// Expert load by layer and expert in four spans of the run, and by layer over all of it; empty
// without experts.
std::string ExpertCharts(const MetricsLog& log);
// Steps that were skipped and notes.
std::string TrainingNotes(const MetricsLog& log);

}  // namespace hadal::internal
