// The verbs. Each Add function gives the program one subcommand, whose callback runs it and leaves
// the outcome in `status`; there is one file per verb.
#pragma once

#include "base/result.h"
#include "cli/command_line.h"

namespace hadal::cli {

void AddChat(Verb& app, Status& status);
void AddComplete(Verb& app, Status& status);
void AddPull(Verb& app, Status& status);
void AddList(Verb& app, Status& status);
void AddInspect(Verb& app, Status& status);
void AddConvert(Verb& app, Status& status);
void AddQuantize(Verb& app, Status& status);
void AddPerplexity(Verb& app, Status& status);
void AddBench(Verb& app, Status& status);
void AddVerify(Verb& app, Status& status);
void AddData(Verb& app, Status& status);
void AddRecipe(Verb& app, Status& status);
void AddTrain(Verb& app, Status& status);
void AddDistill(Verb& app, Status& status);
void AddEval(Verb& app, Status& status);
void AddCost(Verb& app, Status& status);
void AddReport(Verb& app, Status& status);

// The program: exit code 0; 1 with one line on stderr when a command fails; 2 for wrong usage.
int Main(int argc, const char* const* argv);

}  // namespace hadal::cli
