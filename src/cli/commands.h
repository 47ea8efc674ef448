// The verbs. Each Add function gives the program one subcommand, whose callback runs it and leaves
// the outcome in `status`; there is one file per verb.
#pragma once

#include "base/result.h"

namespace CLI {
class App;
}

namespace hadal::cli {

void AddChat(CLI::App& app, Status& status);
void AddComplete(CLI::App& app, Status& status);
void AddPull(CLI::App& app, Status& status);
void AddList(CLI::App& app, Status& status);
void AddInspect(CLI::App& app, Status& status);
void AddConvert(CLI::App& app, Status& status);
void AddQuantize(CLI::App& app, Status& status);
void AddPerplexity(CLI::App& app, Status& status);
void AddBench(CLI::App& app, Status& status);
void AddVerify(CLI::App& app, Status& status);
void AddData(CLI::App& app, Status& status);
void AddRecipe(CLI::App& app, Status& status);
void AddTrain(CLI::App& app, Status& status);
void AddEval(CLI::App& app, Status& status);
void AddCost(CLI::App& app, Status& status);
void AddReport(CLI::App& app, Status& status);

// The program: exit code 0; 1 with one line on stderr when a command fails; 2 for wrong usage.
int Main(int argc, const char* const* argv);

}  // namespace hadal::cli
