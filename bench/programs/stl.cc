// C++ containers for the words of the text on standard input: an index, counts, a trie, lists, queues and strings.
#include "input.h"
#include <algorithm>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

struct Trie {
  std::map<char, std::unique_ptr<Trie>> next;
  int count = 0;
};

struct Shape {
  virtual ~Shape() = default;
  virtual double area() const = 0;
};
struct Circle : Shape {
  double radius;
  explicit Circle(double r) : radius(r) {}
  double area() const override { return radius * radius * 3.14159; }
};
struct Polygon : Shape {
  std::vector<std::pair<double, double>> corners;
  explicit Polygon(int n) {
    for (int i = 0; i < n; i++) corners.emplace_back(i, i * i % 7);
  }
  double area() const override { return corners.size(); }
};

int main() {
  size_t length = read_input();
  std::unordered_map<std::string, std::vector<size_t>> index;
  std::map<std::string, int> sorted;
  std::deque<std::string> window;
  Trie trie;
  std::string word;
  size_t words = 0;
  for (size_t i = 0; i < length; i++) {
    char c = input[i];
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_') {
      word += c;
      continue;
    }
    if (word.empty()) continue;
    index[word].push_back(i);
    sorted[word + "/" + std::to_string(words % 5)]++;
    window.push_back("window of " + word);
    if (window.size() > 50) window.pop_front();
    if (words % 4 == 0) {
      Trie *node = &trie;
      for (char letter : word) {
        auto &next = node->next[letter];
        if (!next) next = std::make_unique<Trie>();
        node = next.get();
      }
      node->count++;
    }
    words++;
    word.clear();
  }
  std::vector<std::pair<int, std::string>> ranking;
  for (auto &[key, places] : index) ranking.emplace_back(places.size(), key);
  std::sort(ranking.begin(), ranking.end(), [](auto &a, auto &b) { return a.first != b.first ? a.first > b.first : a.second < b.second; });

  std::list<std::unique_ptr<Shape>> shapes;
  double area = 0;
  for (int i = 0; i < 12000; i++) {
    if (i % 3) shapes.push_back(std::make_unique<Circle>(i));
    else shapes.push_back(std::make_unique<Polygon>(i % 20 + 3));
    if (shapes.size() > 400) {
      area += shapes.front()->area();
      shapes.pop_front();
    }
  }
  std::multiset<int> numbers;
  for (int i = 0; i < 15000; i++) {
    numbers.insert(i * 7919 % 10007);
    if (numbers.size() > 2000) numbers.erase(numbers.begin());
  }
  std::vector<std::shared_ptr<std::string>> shared;
  for (auto &[count, key] : ranking) shared.push_back(std::make_shared<std::string>(key + " occurs " + std::to_string(count) + " times"));
  return area > 0 && !shared.empty() && !numbers.empty() ? 0 : 1;
}
