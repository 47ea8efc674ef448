// hadal distill: a recipe that teaches a student what a teacher knows, written and run.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/terminal.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/conversion.h"
#include "cli/flags.h"
#include "cli/recipe.h"
#include "cli/session.h"
#include "data/shard.h"
#include "data/source.h"
#include "infer/bundle.h"

namespace hadal::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

struct Flags {
  std::string model, student, kl = "forward";
  std::vector<std::string> data;
  int64_t steps = 1000, batch = 16, sequence_length = 0, top_k = 16, max_tokens = 512, samples = 1;
  double weight = 0.5, temperature = 1, learning_rate = 3e-4;
  uint64_t seed = 1;
  bool store_logits = false, text = false, recipe_only = false;
  RecipeOptions recipe;
  int threads = 0;
};

// What the flags name, once it is known to fit together.
struct Plan {
  std::string teacher, tokenizer;
  std::string from;  // a model to start from; empty: `config`
  Json config;
  bool logits = true;  // the student learns the teacher's probabilities, not its text alone
  int64_t sequence_length = 0;
  std::vector<std::string> talks, train, validation;  // conversations, or shards
  bool validates = false;
};

std::string Absolute(const std::string& path) {
  std::error_code ec;
  const fs::path whole = fs::absolute(path, ec);
  return ec ? path : whole.lexically_normal().string();
}

Error Wrong(const std::string& what) { return {Code::kInvalid, what}; }

// A value as TOML has it: its strings, numbers and lists read like JSON's.
std::string Toml(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// A table and the tables within it.
void AppendTable(const std::string& name, const Json& table, std::string& out) {
  out += "[" + name + "]\n";
  for (const auto& [key, value] : table.items()) {
    if (!value.is_object() && !value.is_null()) out += key + " = " + Toml(value) + "\n";
  }
  for (const auto& [key, value] : table.items()) {
    if (value.is_object()) AppendTable(name + "." + key, value, out);
  }
}

// A folder with the teacher's tokenizer: its own, or one made of a GGUF.
Result<std::string> TokenizerFolderOf(const WeightFile& file, const ModelConfig& config,
                                      const std::string& path, const std::string& output) {
  std::error_code ec;
  if (file.kind() == WeightFile::Kind::kHuggingFace) {
    if (fs::exists(path + "/tokenizer.json", ec)) return path;
    return Wrong(path + ": holds no tokenizer.json, which the student needs");
  }
  const std::string folder = output + "/tokenizer";
  fs::create_directories(folder, ec);
  if (ec) return Error{Code::kIo, folder + ": cannot be made: " + ec.message()};
  for (const FolderText& text : TRY(TokenizerTexts(file, config))) {
    TRY(WriteFileAtomic(folder + "/" + text.name, text.text));
  }
  return folder;
}

// config.json of a new student: the vocabulary and its marks are the teacher's where it is silent.
Result<Json> NewStudent(const std::string& path, const ModelConfig& teacher) {
  Json j = Json::parse(TRY(ReadFile(path, 64 << 20)), nullptr, false);
  if (!j.is_object()) return Wrong(path + ": is no configuration (a JSON object)");
  if (!j.contains("vocab_size")) j["vocab_size"] = teacher.vocab;
  if (!j.contains("bos_token_id") && teacher.bos_id) j["bos_token_id"] = *teacher.bos_id;
  if (!j.contains("eos_token_id") && !teacher.eos_ids.empty()) j["eos_token_id"] = teacher.eos_ids;
  const Result<ModelConfig> parsed = ModelConfig::FromJson(j.dump());
  if (!parsed.ok()) return Error{parsed.error().code, path + ": " + parsed.error().message};
  return Json::parse(parsed->ToJson("float32"));
}

Status CheckVocabularies(const Flags& flags, const ModelConfig& teacher,
                         const ModelConfig& student) {
  if (teacher.vocab == student.vocab) return {};
  return Wrong(
      fmt::format("the student {} has a vocabulary of {} tokens, the teacher {} of {}: "
                  "logits need the same one; --text teaches through the teacher's words",
                  flags.student, student.vocab, flags.model, teacher.vocab));
}

// The student's part of the plan; its tokenizer is the teacher's unless text alone is taught.
Result<ModelConfig> PlanStudent(const Flags& flags, const WeightFile& teacher_file,
                                const ModelConfig& teacher, Plan& plan) {
  std::error_code ec;
  if (flags.student.ends_with(".json") && fs::is_regular_file(flags.student, ec)) {
    plan.config = TRY(NewStudent(flags.student, teacher));
    const ModelConfig config = TRY(ModelConfig::FromJson(plan.config.dump()));
    TRY(CheckVocabularies(flags, teacher, config));
    return config;
  }
  plan.from = Absolute(TRY(FindModel(flags.student)));
  const WeightFile file = TRY(WeightFile::Open(plan.from));
  ModelConfig config = TRY(ModelConfig::FromFile(file));
  if (!plan.logits) {
    plan.tokenizer = TRY(TokenizerFolderOf(file, config, plan.from, flags.recipe.output));
    return config;
  }
  TRY(CheckVocabularies(flags, teacher, config));
  const std::string its = TokenizerHash(TRY(LoadTokenizer(file)));
  if (its != TokenizerHash(TRY(LoadTokenizer(teacher_file)))) {
    return Wrong(
        fmt::format("the student {} and the teacher {} have different tokenizers: logits "
                    "need the same one; --text teaches through the teacher's words",
                    flags.student, flags.model));
  }
  return config;
}

// Conversations are counted: a hundredth is held out where that leaves a few.
Status PlanData(const Flags& flags, Plan& plan) {
  constexpr int64_t kRowsToHoldOut = 2000;
  std::error_code ec;
  int64_t rows = 0;
  std::string line;
  for (const std::string& path : flags.data) {
    if (!path.ends_with(".shard") && !fs::is_directory(path, ec)) {
      plan.talks.push_back(Absolute(path));
      LineSource lines = TRY(LineSource::Open(path));
      while (rows < kRowsToHoldOut && TRY(lines.Next(&line))) ++rows;
      continue;
    }
    const bool split = fs::is_directory(path + "/train", ec);
    plan.train.push_back(Absolute(split ? path + "/train" : path));
    TRY(ShardSet::Open(plan.train.back()));
    if (split && fs::is_directory(path + "/validation", ec)) {
      plan.validation.push_back(Absolute(path + "/validation"));
    }
  }
  if (!plan.talks.empty() && !plan.train.empty()) {
    return Wrong("--data: files of conversations, or folders of shards, not both");
  }
  if (flags.text && plan.talks.empty()) {
    return Wrong(
        "--text: --data wants files of conversations, whose questions the teacher "
        "answers; shards hold tokens alone");
  }
  plan.validates = plan.talks.empty() ? !plan.validation.empty() : rows >= kRowsToHoldOut;
  return {};
}

Result<Plan> MakePlan(const Flags& flags) {
  Plan plan;
  plan.logits = !flags.text || flags.store_logits;
  plan.teacher = Absolute(TRY(FindModel(flags.model)));
  const WeightFile file = TRY(WeightFile::Open(plan.teacher));
  const ModelConfig teacher = TRY(ModelConfig::FromFile(file));
  TRY(PlanData(flags, plan));
  const ModelConfig student = TRY(PlanStudent(flags, file, teacher, plan));
  if (plan.tokenizer.empty()) {
    plan.tokenizer = TRY(TokenizerFolderOf(file, teacher, plan.teacher, flags.recipe.output));
  }
  const int64_t most = plan.logits ? std::min(teacher.context, student.context) : student.context;
  plan.sequence_length =
      flags.sequence_length > 0 ? flags.sequence_length : std::min<int64_t>(512, most);
  if (plan.sequence_length > most) {
    return Wrong(
        fmt::format("--sequence-length {} exceeds the context of {} tokens that teacher "
                    "and student have",
                    plan.sequence_length, most));
  }
  return plan;
}

void AppendData(const Flags& flags, const Plan& plan, std::string& out) {
  if (plan.talks.empty()) return;
  if (flags.text) {
    out += fmt::format(
        "\n# The teacher answers the questions of the conversations.\n"
        "[[stage]]\nname = \"answers\"\nkind = \"generate\"\nmodel = {}\nprompts = {}\n"
        "samples = {}\nmax_tokens = {}\nonly_right = false\n",
        Toml(plan.teacher), Toml(plan.talks), flags.samples, flags.max_tokens);
  }
  out += fmt::format(
      "\n[[stage]]\nname = \"data\"\nkind = \"dataset\"\ntokenizer = {}\n"
      "format = \"conversation\"\nsources = {}\nvalidation = {}\n",
      Toml(plan.tokenizer), flags.text ? "[\"stage:answers/train.jsonl\"]" : Toml(plan.talks),
      plan.validates ? "0.01" : "0.0");
}

void AppendStudent(const Flags& flags, const Plan& plan, std::string& out) {
  const int64_t parts = flags.batch % 4 == 0 ? 4 : flags.batch % 2 == 0 ? 2 : 1;
  const std::string data = plan.talks.empty() ? Toml(plan.train) : "[\"stage:data\"]";
  if (plan.logits && flags.store_logits) {
    out += fmt::format(
        "\n# The teacher runs once; training reads what it left.\n"
        "[[stage]]\nname = \"logits\"\nkind = \"logits\"\nmodel = {}\ndata = {}\ntop_k = {}\n"
        "temperature = {}\nsequence_length = {}\n",
        Toml(plan.teacher), data, flags.top_k, Toml(flags.temperature), plan.sequence_length);
  }
  out += fmt::format(
      "\n[[stage]]\nname = \"student\"\nkind = \"train\"\ntokenizer = {}\ndata = {}\n"
      "validate = {}\nsequence_length = {}\nbatch_sequences = {}\ngradient_parts = {}\n"
      "steps = {}\n",
      Toml(plan.tokenizer), data, plan.validates, plan.sequence_length, flags.batch, parts,
      flags.steps);
  if (!plan.validation.empty()) out += "validation = " + Toml(plan.validation) + "\n";
  if (!plan.from.empty()) out += "from = " + Toml(plan.from) + "\n";
  out += fmt::format("[stage.schedule]\nlearning_rate = {}\nwarmup_steps = {}\n",
                     Toml(flags.learning_rate), std::min<int64_t>(100, flags.steps / 10));
  if (plan.logits) {
    out += fmt::format(
        "[stage.teacher]\n{}\ntop_k = {}\nweight = {}\ntemperature = {}\n"
        "direction = \"{}_kl\"\n",
        flags.store_logits ? "logits = \"stage:logits\"" : "model = " + Toml(plan.teacher),
        flags.top_k, Toml(flags.weight), Toml(flags.temperature), flags.kl);
  }
  if (plan.from.empty()) AppendTable("stage.model", plan.config, out);
}

std::string RecipeText(const Flags& flags, const Plan& plan) {
  std::string name = fs::path(flags.recipe.output).lexically_normal().filename().string();
  if (name.empty() || name.size() > 64 || name[0] == '.' ||
      !std::all_of(name.begin(), name.end(), [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.';
      })) {
    name = "distillation";
  }
  std::string out = fmt::format(
      "# Written by hadal distill. hadal recipe {0}/recipe.toml -o {0} goes on from it.\n"
      "name = \"{1}\"\nseed = {2}\n",
      flags.recipe.output, name, flags.seed);
  AppendData(flags, plan, out);
  AppendStudent(flags, plan, out);
  return out;
}

// The recipe in the run's folder. One that says something else is somebody's work.
Status WriteRecipe(Flags& flags) {
  const std::string& folder = flags.recipe.output;
  std::error_code ec;
  fs::create_directories(folder, ec);
  if (ec) return Error{Code::kIo, folder + ": cannot be made: " + ec.message()};
  const std::string text = RecipeText(flags, TRY(MakePlan(flags)));
  if (!flags.recipe.restart && fs::exists(flags.recipe.file, ec) &&
      TRY(ReadFile(flags.recipe.file, 1 << 20)) != text) {
    return Wrong(
        fmt::format("{}: is there and says something else; run it with hadal recipe, "
                    "choose another folder, or replace it with --restart",
                    flags.recipe.file));
  }
  return WriteFileAtomic(flags.recipe.file, text);
}

Status Run(Flags& flags) {
  while (flags.recipe.output.size() > 1 && flags.recipe.output.ends_with('/')) {
    flags.recipe.output.pop_back();
  }
  flags.recipe.file = flags.recipe.output + "/recipe.toml";
  const auto world = TRY(World::Start());
  const auto exec = TRY(MakeExec(flags.threads));
  const InterruptGuard guard;
  flags.recipe.interrupted = [] { return InterruptGuard::interrupted(); };
  Status done = world->rank() == 0 ? WriteRecipe(flags) : Status();
  // The others may be waiting for a rank that leaves.
  if (!done.ok() && !world->alone()) world->Abort(done.error().message);
  world->Barrier();
  if (done.ok() && !flags.recipe_only) done = RunRecipe(*exec, *world, flags.recipe);
  if (!done.ok() && !world->alone()) world->Abort(done.error().message);
  if (done.ok() && world->rank() == 0 && !flags.recipe.quiet) {
    fmt::print("{}\n", Printable(flags.recipe_only ? flags.recipe.file
                                                   : flags.recipe.output + "/student/model"));
  }
  world->Finish();
  return done;
}

void AddLearning(Verb& verb, Flags& f) {
  verb.add_option("--steps", f.steps, "Training steps")
      ->check(Range(int64_t{1}, int64_t{1} << 40))
      ->capture_default_str();
  verb.add_option("--batch", f.batch, "Sequences a step")
      ->check(Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  verb.add_option("--sequence-length", f.sequence_length,
                  "Tokens a sequence; default 512, or the context where that is less")
      ->check(Range(int64_t{2}, int64_t{1} << 20));
  verb.add_option("--learning-rate", f.learning_rate, "At its highest")
      ->check(Range(0.0, 10.0))
      ->capture_default_str();
  verb.add_option("--top-k", f.top_k, "The teacher's likeliest tokens that count one by one")
      ->check(Range(int64_t{1}, int64_t{4096}))
      ->capture_default_str();
  verb.add_option("--weight", f.weight, "Of the teacher's part; cross-entropy gets the rest")
      ->check(Range(0.0, 1.0))
      ->capture_default_str();
  verb.add_option("--temperature", f.temperature, "Of both distributions")
      ->check(Range(0.01, 100.0))
      ->capture_default_str();
  verb.add_option("--kl", f.kl,
                  "forward: cover all the teacher does; reverse: do what it does most")
      ->check(OneOf({"forward", "reverse"}))
      ->capture_default_str();
  verb.add_option("--seed", f.seed, "Of the student's weights, the shuffle and the answers")
      ->capture_default_str();
}

}  // namespace

void AddDistill(Verb& app, Status& status) {
  auto flags = std::make_shared<Flags>();
  Flags& f = *flags;
  Verb* verb = app.add_subcommand("distill", "Teach a student what a teacher knows");
  verb->add_option("-m,--model", f.model, "The teacher: GGUF file, folder or name")->required();
  verb->add_option("--student", f.student, "config.json of a new model, or a model to start from")
      ->required();
  verb->add_option("--data", f.data, "Files of conversations (.jsonl), or folders of shards")
      ->required();
  verb->add_option("-o,--output", f.recipe.output, "Folder of the run; its recipe.toml says it all")
      ->required();
  AddLearning(*verb, f);
  verb->add_flag("--store-logits", f.store_logits,
                 "Run the teacher once, ahead, instead of beside the student");
  verb->add_flag("--text", f.text,
                 "The teacher answers the questions; the student learns its text");
  verb->add_option("--samples", f.samples, "Answers a question, with --text")
      ->check(Range(int64_t{1}, int64_t{4096}))
      ->capture_default_str();
  verb->add_option("--max-tokens", f.max_tokens, "Of an answer, with --text; longer ones go")
      ->check(Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  verb->add_flag("--recipe-only", f.recipe_only, "Write the recipe, do not run it");
  verb->add_flag("--restart", f.recipe.restart, "Forget what earlier runs left");
  verb->add_flag("-q,--quiet", f.recipe.quiet, "No live view");
  AddThreads(*verb, f.threads);
  verb->footer(
      "Writes a recipe to the folder and runs it: hadal recipe goes on from there. The student is\n"
      "FOLDER/student/model. Logits need the teacher's vocabulary; --text works with any student\n"
      "(with --store-logits both are taught).\n"
      "Examples:\n"
      "  hadal distill -m teacher --student config.json --data talks.jsonl -o runs/student\n"
      "  hadal distill -m teacher --student small --data talks.jsonl -o runs/words --text\n");
  verb->callback([flags, &status] { status = Run(*flags); });
}

}  // namespace hadal::cli
