// C++: containers, over-aligned new, exceptions that are thrown through frames with blocks to free.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

struct alignas(128) Wide {
  char bytes[128];
};

static int thrower(int depth) {
  std::vector<std::string> texts(depth, std::string(100, 'x'));
  if (depth == 0) throw std::runtime_error("from below");
  return thrower(depth - 1) + static_cast<int>(texts.size());
}

int main() {
  std::map<std::string, std::vector<int>> table;
  for (int i = 0; i < 5000; i++) table[std::to_string(i % 700)].push_back(i);
  size_t longest = 0;
  for (const auto &[key, values] : table) longest = std::max(longest, values.size());

  int caught = 0;
  for (int i = 0; i < 100; i++) {
    try {
      thrower(i % 10);
    } catch (const std::exception &) {
      caught++;
    }
  }
  auto wide = std::make_unique<Wide[]>(3);
  volatile std::size_t huge = PTRDIFF_MAX;
  char *volatile block = new (std::nothrow) char[huge];
  bool refused = block == nullptr;
  bool aligned = reinterpret_cast<std::uintptr_t>(wide.get()) % 128 == 0;
  std::printf("%zu keys, %zu at most, %d caught, %d %d\n", table.size(), longest, caught, refused, aligned);
}
