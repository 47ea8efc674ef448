#include "train/teacher.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "base/file.h"
#include "base/hash.h"
#include "base/rng.h"
#include "train/checkpoint.h"
#include "train/testing_model.h"
#include "train/trainer.h"

namespace hadal {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kLength = 24;

std::string DenseConfig(int vocab, int context = 128) {
  return R"({"model_type":"llama","vocab_size":)" + std::to_string(vocab) +
         R"(,"hidden_size":32,"intermediate_size":48,"num_hidden_layers":2,
"num_attention_heads":2,"num_key_value_heads":1,"head_dim":16,"max_position_embeddings":)" +
         std::to_string(context) +
         R"(,"rope_theta":10000.0,"rms_norm_eps":1e-6,"hidden_act":"silu","attention_bias":false,
"mlp_bias":false,"tie_word_embeddings":false})";
}

TrainOptions Options(KlDirection direction) {
  TrainOptions o;
  o.sequence_length = kLength;
  o.batch_sequences = 8;
  o.micro_tokens = 3 * kLength;
  o.steps = 60;
  o.schedule.learning_rate = 1e-2;
  o.schedule.warmup_steps = 3;
  o.teacher.direction = direction;
  o.teacher.top_k = 8;
  o.teacher.weight = 0.7;
  return o;
}

// A student in training, alone in the world.
struct Student {
  Student(const Exec& exec, const std::string& config, const TrainOptions& options, float std)
      : world(std::move(World::Start()).value()) {
    model = std::move(TrainableModel::Create(exec, ModelConfig::FromJson(config).value(),
                                             ComputeType::kF32))
                .value();
    model->parameters().Initialise(exec, options.seed, std);
    auto made = Trainer::Create(exec, *world, *model, options);
    EXPECT_TRUE(made.ok()) << made.error().message;
    trainer = std::move(made).value();
  }
  std::unique_ptr<World> world;
  std::unique_ptr<TrainableModel> model;
  std::unique_ptr<Trainer> trainer;
};

class TeacherTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "hadal-teacher-" + std::to_string(getpid());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    WriteTeacher("teacher", 1, DenseConfig(64));
    Rng rng(5);
    for (const std::string set : {"a", "b"}) {
      auto writer = ShardWriter::Create({folder_ + "/" + set, std::string(64, 'a'), 64, 400});
      ASSERT_TRUE(writer.ok());
      for (int d = 0; d < 40; ++d) {
        std::vector<TokenId> ids(2 + rng.Below(50));  // some are cut
        std::vector<uint8_t> loss(ids.size());
        for (size_t i = 0; i < ids.size(); ++i) {
          ids[i] = static_cast<TokenId>(rng.Below(64));
          loss[i] = rng.Below(3) > 0;
        }
        ASSERT_TRUE(writer->Add(ids, loss).ok());
      }
      ASSERT_TRUE(writer->Finish().ok());
    }
  }
  void TearDown() override { fs::remove_all(folder_); }

  void WriteTeacher(const std::string& name, uint64_t seed, const std::string& config) {
    TrainOptions o = Options(KlDirection::kForward);
    o.seed = seed;
    Student teacher(exec_, config, o, 0.3f);
    const Status saved =
        SaveModel(folder_ + "/" + name, *teacher.world, *teacher.trainer, *teacher.model, {});
    ASSERT_TRUE(saved.ok()) << saved.error().message;
  }
  StoreLogitsOptions Store() const {
    return {.folder = folder_ + "/logits",
            .model = folder_ + "/teacher",
            .sets = {folder_ + "/a", folder_ + "/b"},
            .top_k = 8,
            .sequence_length = kLength,
            .micro_tokens = 100,
            .temperature = 1,
            .progress = {}};
  }
  Result<StoredLogits> Run(const StoreLogitsOptions& options) {
    return StoreLogits(exec_, *World::Start().value(), options);
  }
  std::vector<WeightedSet> Sets() const { return {{folder_ + "/a", 1}, {folder_ + "/b", 2}}; }
  // Steps over both sets in a shuffled order; what the records and weights are in the end.
  std::string Train(const TrainOptions& options, int steps, std::vector<StepRecord>* records) {
    Student student(exec_, SparseConfig(2), options, 0.05f);
    Loader loader =
        Loader::Open({.sets = Sets(), .sequence_length = kLength, .seed = 4, .window_sequences = 5})
            .value();
    for (int i = 0; i < steps; ++i) {
      const auto batch = loader.Next(options.batch_sequences);
      EXPECT_TRUE(batch.ok());
      auto record = student.trainer->Step(*batch);
      EXPECT_TRUE(record.ok()) << record.error().message;
      if (record.ok()) records->push_back(*record);
    }
    const std::span<const float> v = student.model->parameters().values();
    return Sha256Hex({reinterpret_cast<const char*>(v.data()), v.size_bytes()});
  }

  const Exec exec_{2, SupportedIsas().back()};
  std::string folder_;
};

TEST_F(TeacherTest, StoredLogitsTrainToTheBitsOfALiveTeacher) {
  const auto stored = Run(Store());
  ASSERT_TRUE(stored.ok()) << stored.error().message;
  EXPECT_GT(stored->shards, 3);
  for (const KlDirection direction : {KlDirection::kForward, KlDirection::kReverse}) {
    for (const int64_t k : {8, 3}) {
      TrainOptions o = Options(direction);
      o.teacher.top_k = k;
      o.teacher.model = folder_ + "/teacher";
      std::vector<StepRecord> live, read;
      const std::string weights = Train(o, 12, &live);  // several passes over the data
      o.teacher.model.clear();
      o.teacher.logits = folder_ + "/logits";
      ASSERT_TRUE(CheckStoredLogits(o.teacher, Sets(), kLength).ok());
      if (k == 8) o.teacher.top_k = 0;
      EXPECT_EQ(Train(o, 12, &read), weights);
      ASSERT_EQ(read.size(), live.size());
      for (size_t i = 0; i < live.size(); ++i) {
        EXPECT_EQ(read[i].loss, live[i].loss);
        EXPECT_EQ(read[i].distill_loss, live[i].distill_loss);
        EXPECT_GT(live[i].distill_loss, 0);
      }
    }
  }
}

TEST_F(TeacherTest, BothDirectionsFallToTheTeacher) {
  ASSERT_TRUE(Run(Store()).ok());
  for (const KlDirection direction : {KlDirection::kForward, KlDirection::kReverse}) {
    TrainOptions o = Options(direction);
    o.teacher.weight = 1;  // no cross-entropy
    o.teacher.logits = folder_ + "/logits";
    std::vector<StepRecord> records;
    Train(o, 60, &records);
    for (const StepRecord& r : records) ASSERT_TRUE(std::isfinite(r.distill_loss));
    EXPECT_LT(records.back().distill_loss, 0.9 * records.front().distill_loss)
        << static_cast<int>(direction);
  }
}

// The gradient of the whole objective by the slope of its value along it.
TEST_F(TeacherTest, GradientsAreThoseOfTheLoss) {
  TeacherOptions live;
  live.model = folder_ + "/teacher";
  live.top_k = 8;
  live.temperature = 1.7;
  const auto teacher = Teacher::Open(exec_, live, 64);
  ASSERT_TRUE(teacher.ok());
  std::vector<int32_t> tokens;
  std::vector<float> weights;
  Rng rng(8);
  for (int i = 0; i < 60; ++i) {
    tokens.push_back(static_cast<int32_t>(rng.Below(64)));
    weights.push_back(i % 4 == 0 ? 0.0f : 1.0f);
  }
  const std::vector<int32_t> first = {0, 20};
  const TrainBatch batch{tokens, first, weights};
  const TeacherTopK rows = (*teacher)->TopK({}, batch).value();
  auto model =
      std::move(TrainableModel::Create(exec_, ModelConfig::FromJson(DenseConfig(64)).value(),
                                       ComputeType::kF32))
          .value();
  Parameters& p = model->parameters();
  for (const KlDirection direction : {KlDirection::kForward, KlDirection::kReverse}) {
    p.Initialise(exec_, 3, 0.2f);
    Objective o;
    o.loss_scale = 0.05;
    o.teacher = &rows;
    o.distill.direction = direction;
    o.distill.temperature = 1.7f;
    o.distill_weight = 0.6;
    const auto value = [&] {
      EXPECT_TRUE(model->Publish().ok());
      std::fill(p.gradients().begin(), p.gradients().end(), 0.0f);
      const PassResult r = model->Accumulate(batch, o).value();
      return 0.05 * (0.4 * r.loss + 0.6 * r.distill_loss);
    };
    value();
    const std::vector<float> gradient(p.gradients().begin(), p.gradients().end());
    const std::vector<float> at(p.values().begin(), p.values().end());
    double norm = 0;
    for (const float g : gradient) norm += double{g} * double{g};
    norm = std::sqrt(norm);
    constexpr double kStep = 2e-3;
    const auto along = [&](double distance) {
      for (size_t i = 0; i < at.size(); ++i) {
        p.values()[i] = static_cast<float>(at[i] + distance * gradient[i] / norm);
      }
      return value();
    };
    const double slope = (along(kStep) - along(-kStep)) / (2 * kStep);
    EXPECT_NEAR(slope / norm, 1, 2e-3) << static_cast<int>(direction);
  }
}

TEST_F(TeacherTest, KeepsWhatFitsAndGoesOnWhereItStopped) {
  StoreLogitsOptions o = Store();
  int64_t calls = 0;
  o.progress = [&](int64_t done, int64_t total) {
    EXPECT_LE(done, total);
    return ++calls < 12;
  };
  const auto stopped = Run(o);
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.error().code, Code::kCancelled);
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(o.folder)) names.push_back(entry.path());
  ASSERT_FALSE(names.empty());  // the first shard is whole
  for (const std::string& name : names) EXPECT_TRUE(name.ends_with(".logits")) << name;
  o.progress = {};
  ASSERT_TRUE(WriteFileAtomic(o.folder + "/0123456789abcdef.logits.tmp.1", "half").ok());
  const auto whole = Run(o);
  ASSERT_TRUE(whole.ok()) << whole.error().message;
  EXPECT_EQ(whole->kept, static_cast<int64_t>(names.size()));
  EXPECT_FALSE(fs::exists(o.folder + "/0123456789abcdef.logits.tmp.1"));
  EXPECT_EQ(Run(o)->kept, whole->shards);
  // The size of passes is no part of the result.
  const std::string hash = Sha256File(names[0]).value();
  fs::remove(names[0]);
  o.micro_tokens = 5000;
  EXPECT_EQ(Run(o)->kept, whole->shards - 1);
  EXPECT_EQ(Sha256File(names[0]).value(), hash);
  // A flipped bit is written over, as are the files of another teacher.
  std::string bytes = ReadFile(names[0]).value();
  bytes[bytes.size() / 2] ^= 1;
  ASSERT_TRUE(WriteFileAtomic(names[0], bytes).ok());
  EXPECT_EQ(Run(o)->kept, whole->shards - 1);
  EXPECT_EQ(Sha256File(names[0]).value(), hash);
  WriteTeacher("second", 2, DenseConfig(64));
  o.model = folder_ + "/second";
  const auto second = Run(o);
  EXPECT_EQ(second->kept, 0);
  EXPECT_NE(second->teacher_hash, whole->teacher_hash);
}

TEST_F(TeacherTest, SaysWhatDoesNotFit) {
  ASSERT_TRUE(Run(Store()).ok());
  const auto refused = [](const Status& status, const std::string& message) {
    ASSERT_FALSE(status.ok()) << message;
    EXPECT_NE(status.error().message.find(message), std::string::npos) << status.error().message;
  };
  TeacherOptions o;
  o.logits = folder_ + "/logits";
  o.top_k = 9;
  refused(CheckStoredLogits(o, Sets(), kLength), "lists 8 tokens a row, teacher.top_k wants 9");
  o.top_k = 0;
  o.temperature = 2;
  refused(CheckStoredLogits(o, Sets(), kLength), "at temperature 1, teacher.temperature is 2");
  o.temperature = 1;
  refused(CheckStoredLogits(o, Sets(), kLength + 1), "same sequence_length");
  const auto open = [&](int64_t vocab) -> Status {
    const auto teacher = Teacher::Open(exec_, o, vocab);
    return teacher.ok() ? Status() : teacher.error();
  };
  refused(open(65), "vocabulary of 64 tokens, the student of 65");

  WriteTeacher("narrow", 1, DenseConfig(40));
  StoreLogitsOptions s = Store();
  s.model = folder_ + "/narrow";
  const auto run = [&]() -> Status {
    const auto stored = Run(s);
    return stored.ok() ? Status() : stored.error();
  };
  refused(run(), "its tokenizer is another");
  WriteTeacher("short", 1, DenseConfig(64, 16));
  s.model = folder_ + "/short";
  refused(run(), "exceeds the teacher's context of 16");
}

}  // namespace
}  // namespace hadal
