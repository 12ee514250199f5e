#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace llama2zh {

// A TensorBoard event file with scalars, flushed after each. Format: TensorBoard's event.proto and
// TFRecord framing. One thread at a time; kIo if it can't be written.
class EventFile {
 public:
  // A new file in `folder`, which is created. `after_step` > 0 goes on with the files that are
  // there: readers drop their points of later steps, since these will come again.
  EventFile(const std::filesystem::path& folder, int64_t after_step);
  void scalar(std::string_view tag, int64_t step, double value);
  const std::filesystem::path& path() const { return path_; }

 private:
  void write_record(std::string_view event);
  std::filesystem::path path_;
  std::ofstream out_;
};

// Where the events of a run go: output_dir/runs/<Mon><day>_<time>_<host>, as Hugging Face's Trainer
// names it; a run that goes on after `after_step` > 0 goes on in its newest folder.
std::filesystem::path event_folder(const std::filesystem::path& output_dir, int64_t after_step);

}  // namespace llama2zh
