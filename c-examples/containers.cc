// C++: operator new and the standard containers allocate with malloc, so linking with rsbmalloc is enough.
#include <algorithm>
#include <cstdint>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

// Over-aligned types use operator new(size, alignment), which calls aligned_alloc or a similar function.
struct alignas(64) Particle {
  float position[3];
  float speed[3];
};

template <typename T>
bool aligned(const T *object) {
  return reinterpret_cast<std::uintptr_t>(object) % alignof(T) == 0;
}

// A tree whose nodes own their children.
struct Node {
  int value;
  std::unique_ptr<Node> left, right;
};

void insert(std::unique_ptr<Node> &node, int value) {
  if (!node)
    node = std::make_unique<Node>(Node{value, nullptr, nullptr});
  else
    insert(value < node->value ? node->left : node->right, value);
}

int depth(const std::unique_ptr<Node> &node) {
  return node ? 1 + std::max(depth(node->left), depth(node->right)) : 0;
}

}  // namespace

int main() {
  std::map<std::string, std::vector<int>> by_name;
  for (int i = 0; i < 10000; i++) by_name["number " + std::to_string(i % 97)].push_back(i);
  std::cout << by_name.size() << " names, the first with " << by_name.begin()->second.size() << " numbers\n";

  std::unordered_map<int, std::string> texts;
  for (int i = 0; i < 5000; i++) texts.emplace(i, std::string(i % 300, 'x'));
  std::size_t characters = 0;
  for (const auto &[number, text] : texts) characters += text.size();
  std::cout << texts.size() << " texts, " << characters << " characters\n";

  std::unique_ptr<Node> root;
  for (int i = 0; i < 1000; i++) insert(root, i * 7919 % 10007);
  std::cout << "a tree, " << depth(root) << " deep\n";

  std::vector<Particle> particles(1000);
  auto particle = std::make_unique<Particle>();
  std::cout << "particles aligned to " << alignof(Particle) << ": "
            << (aligned(particles.data()) && aligned(particle.get()) ? "yes" : "no") << '\n';
}
