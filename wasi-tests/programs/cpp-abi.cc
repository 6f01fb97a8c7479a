// C++'s own ways to allocate: every operator new and delete, over-aligned types and the standard library. Prints what is
// not as it should be and exits with the number of such checks.
#include <rsbmallocc.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <numeric>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

int failures = 0;

void check(bool holds, const char *what, int line) {
  if (holds) return;
  failures++;
  std::printf("line %d: %s\n", line, what);
}

#define CHECK(condition) check(condition, #condition, __LINE__)

bool aligned(const void *block, std::size_t alignment) {
  return block && reinterpret_cast<std::uintptr_t>(block) % alignment == 0;
}

std::size_t in_use() { return rsbmallinfo().in_use; }

int live = 0;

struct Counted {
  int value = 7;
  Counted() { live++; }
  ~Counted() { live--; }
};

template <std::size_t Alignment>
struct alignas(Alignment) Aligned {
  unsigned char bytes[Alignment];
};

// Calls the functions themselves: a compiler may leave out a pair of new and delete expressions.
void test_operators() {
  std::size_t before = in_use();
  for (std::size_t size = 0; size < 50000; size = size * 3 + 1) {
    void *block = ::operator new(size);
    CHECK(aligned(block, size < 16 ? 8 : __STDCPP_DEFAULT_NEW_ALIGNMENT__) || size < 5);
    CHECK(in_use() > before);
    ::operator delete(block);
    block = ::operator new(size);
    ::operator delete(block, size);
    block = ::operator new[](size);
    ::operator delete[](block);
    block = ::operator new(size, std::nothrow);
    CHECK(block);
    ::operator delete(block, std::nothrow);
    for (std::size_t alignment = 32; alignment <= 1 << 17; alignment *= 2) {
      auto align = std::align_val_t(alignment);
      block = ::operator new(size, align);
      CHECK(aligned(block, alignment));
      ::operator delete(block, align);
      block = ::operator new[](size, align, std::nothrow);
      CHECK(aligned(block, alignment));
      ::operator delete[](block, size, align);
    }
  }
  CHECK(in_use() == before);
  volatile std::size_t too_large = SIZE_MAX / 2 + 2;
  CHECK(!::operator new(too_large, std::nothrow));
  CHECK(!::operator new(too_large, std::align_val_t(64), std::nothrow));
}

template <std::size_t Alignment>
void test_aligned_type() {
  using T = Aligned<Alignment>;
  auto one = std::make_unique<T>();
  auto many = std::make_unique<T[]>(5);
  std::vector<T> vector(3);
  for (int i = 0; i < 100; i++) vector.emplace_back();
  CHECK(aligned(one.get(), Alignment));
  CHECK(aligned(many.get(), Alignment));
  CHECK(aligned(vector.data(), Alignment));
}

void test_objects() {
  auto *counted = new Counted[1000];
  CHECK(live == 1000 && counted[999].value == 7);
  delete[] counted;
  CHECK(live == 0);
  auto shared = std::make_shared<Counted>();
  std::vector<std::shared_ptr<Counted>> copies(100, shared);
  CHECK(live == 1 && shared.use_count() == 101);
}

void test_containers() {
  std::vector<std::string> strings;
  for (int i = 0; i < 2000; i++) strings.push_back(std::string(i % 200, static_cast<char>('a' + i % 26)));
  std::map<std::string, int> map;
  std::unordered_map<std::string, int> hash_map;
  for (const auto &string : strings) {
    map[string]++;
    hash_map[string]++;
  }
  CHECK(map.size() == hash_map.size());
  for (const auto &[string, count] : map) CHECK(hash_map[string] == count);

  std::deque<int> deque;
  std::list<int> list;
  std::set<int> set;
  for (int i = 0; i < 5000; i++) {
    deque.push_front(i);
    list.push_back(i);
    set.insert(i * 7919 % 5003);
  }
  while (deque.size() > 10) deque.pop_back();
  list.remove_if([](int i) { return i % 3 == 0; });
  CHECK(std::accumulate(deque.begin(), deque.end(), 0) == 49945);
  CHECK(list.size() == 3333 && set.size() == 5000);

  std::array<int, 100> captured{};
  captured[50] = 5;
  std::function<int()> function = [captured] { return captured[50]; };
  CHECK(function() == 5);
}

}  // namespace

int main() {
  // The standard library keeps what it once allocated for itself, if anything.
  test_containers();
  std::size_t before = in_use();
  test_operators();
  test_aligned_type<32>();
  test_aligned_type<64>();
  test_aligned_type<4096>();
  test_aligned_type<65536>();
  test_objects();
  test_containers();
  CHECK(live == 0);
  CHECK(in_use() == before);
  return failures;
}
