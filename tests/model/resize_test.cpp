// New embedding rows. The sub-piece values are worked out by hand.
#include "llama2zh/model/resize.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>

#include "model/model_test_util.h"

namespace llama2zh {
namespace {

using testing::expect_error;
using testing::max_difference;

constexpr double kRange = 0.02;

at::Tensor rows(std::vector<std::vector<float>> values) {
  std::vector<float> flat;
  for (const auto& row : values) flat.insert(flat.end(), row.begin(), row.end());
  return at::tensor(flat).reshape({static_cast<int64_t>(values.size()), -1});
}

TEST(GrowRows, SubpieceIsTheMeanOfTheOldPieces) {
  const at::Tensor old = rows({{1, 2}, {3, 6}, {-1, 0.5}});
  const at::Tensor grown = grow_rows(old, {{1}, {0, 1}, {0, 1, 2, 2}}, RowInit::kSubpiece, 0, 1);
  EXPECT_TRUE(grown.equal(rows({{1, 2}, {3, 6}, {-1, 0.5}, {3, 6}, {2, 4}, {0.5, 2.25}})));
}

TEST(GrowRows, HalfTypesAreAveragedInFp32AndRoundedOnce) {
  // Summed in bf16, where 256 + 1 is 256, the mean would be 32; it is 32.875, which rounds to 33.
  const at::Tensor old = rows({{256}, {1}}).to(at::kBFloat16);
  const at::Tensor grown = grow_rows(old, {{0, 1, 1, 1, 1, 1, 1, 1}}, RowInit::kSubpiece, 0, 1);
  EXPECT_EQ(grown.scalar_type(), at::kBFloat16);
  EXPECT_EQ(grown[2][0].item<float>(), 33);
}

class GrowRowsKinds : public ::testing::TestWithParam<RowInit> {};

TEST_P(GrowRowsKinds, OldRowsStayBitForBit) {
  const at::Tensor old = at::randn({50, 16});
  const at::Tensor grown = grow_rows(old, {{1, 2}, {3}}, GetParam(), kRange, 1);
  EXPECT_EQ(grown.sizes(), (at::IntArrayRef{52, 16}));
  EXPECT_TRUE(grown.narrow(0, 0, 50).equal(old));
  EXPECT_FALSE(grown.is_alias_of(old));
}

TEST_P(GrowRowsKinds, NothingToAddGivesACopy) {
  const at::Tensor old = at::randn({5, 4});
  EXPECT_TRUE(grow_rows(old, {}, GetParam(), kRange, 1).equal(old));
}

INSTANTIATE_TEST_SUITE_P(All, GrowRowsKinds,
                         ::testing::Values(RowInit::kSubpiece, RowInit::kMean, RowInit::kNormal));

TEST(GrowRows, MeanIsTheMeanOfAllRowsAndATraceOfNoise) {
  const at::Tensor old = at::randn({400, 64}) * 0.5 + 3;
  const at::Tensor fresh =
      grow_rows(old, std::vector<std::vector<int32_t>>(300), RowInit::kMean, kRange, 1)
          .narrow(0, 400, 300);
  EXPECT_LT(max_difference(fresh, old.mean(0).expand({300, 64})), 1e-4);
  // sqrt(1e-9) standard deviations: rows that are all the same could never be told apart.
  EXPECT_FALSE(fresh[0].equal(fresh[1]));
  EXPECT_NEAR(fresh.std(0).mean().item<double>(), 0.5 * std::sqrt(1e-9), 0.1 * 0.5e-4);
}

TEST(GrowRows, NormalHasTheModelsInitializerRange) {
  const at::Tensor old = at::randn({10, 64}) + 7;
  const at::Tensor fresh =
      grow_rows(old, std::vector<std::vector<int32_t>>(500), RowInit::kNormal, kRange, 1)
          .narrow(0, 10, 500);
  EXPECT_NEAR(fresh.mean().item<double>(), 0, 0.001);
  EXPECT_NEAR(fresh.std().item<double>(), kRange, 0.001);
}

TEST(GrowRows, TheSeedDecides) {
  const at::Tensor old = at::randn({10, 8});
  for (const RowInit init : {RowInit::kMean, RowInit::kNormal}) {
    const at::Tensor first = grow_rows(old, {{}, {}}, init, kRange, 1);
    EXPECT_TRUE(grow_rows(old, {{}, {}}, init, kRange, 1).equal(first));
    EXPECT_FALSE(grow_rows(old, {{}, {}}, init, kRange, 2).equal(first));
  }
}

TEST(GrowRows, APieceWithoutOldPiecesIsRefused) {
  expect_error(ErrorKind::kData, "no old pieces", [] {
    grow_rows(at::randn({4, 2}), {{1}, {}}, RowInit::kSubpiece, 0, 1);
  });
}

TEST(RowInitName, KnowsThreeAndNamesThem) {
  EXPECT_EQ(parse_row_init("mean"), RowInit::kMean);
  expect_error(ErrorKind::kUsage, "subpiece, mean, normal", [] { parse_row_init("zero"); });
}

}  // namespace
}  // namespace llama2zh
