// One worker's memory, used anew for every view.
#pragma once

#include <optional>

#include "../workspace.h"

namespace sslk::augment {

class Scratch {
 public:
  // All of it, empty, and at least so large.
  Workspace& prepare(size_t bytes) {
    if (!block_ || bytes > size_) {
      block_.reset();
      size_ = bytes + bytes / 4;
      block_.emplace(size_);
    }
    block_->rewind();
    return *block_;
  }

 private:
  std::optional<Workspace> block_;
  size_t size_ = 0;
};

}  // namespace sslk::augment
