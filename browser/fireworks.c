// Fireworks: every spark, every point of a spark's trail and every shell's sound is a separate block, so that a step
// consists of little more than malloc, realloc and free. The seed is fixed, so every run is the same.
#include <emscripten.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
  WIDTH = 320,
  HEIGHT = 200,
  TRAIL = 24,         // points per trail
  STEPS_A_SHELL = 3,  // from one shell to the next
  SHELL_STEPS = 120,  // duration of a shell's sound
  MOST_SPARKS = 1200, // per shell, beyond the first 100
  COLORS = 6,
};

typedef struct Point {
  struct Point *next;
  float x, y;
} Point;

typedef struct Spark {
  struct Spark *next;
  float x, y, dx, dy;
  int life, color, points;
  Point *first, *last;
} Spark;

typedef struct Sound {
  struct Sound *next;
  int life;
  size_t size;
  uint8_t *samples;
} Sound;

static Spark *sparks;
static Sound *sounds;
static int live_sparks, steps;
static uint32_t seed = 2026, hash = 1;
static uint32_t *pixels;

static uint32_t random_below(uint32_t limit) {
  seed = seed * 1664525u + 1013904223u;
  return (uint32_t)(((uint64_t)seed * limit) >> 32);
}

static float random_float(void) { return (float)random_below(1 << 20) / (1 << 20); }

static void *checked(void *block) {
  if (!block) abort();
  return block;
}

static void launch(void) {
  float x = WIDTH * (0.1f + 0.8f * random_float()), y = HEIGHT * (0.1f + 0.5f * random_float());
  int count = 100 + (int)random_below(MOST_SPARKS), color = (int)random_below(COLORS);
  float power = 0.5f + 1.5f * random_float();
  for (int i = 0; i < count; i++) {
    Spark *spark = checked(malloc(sizeof *spark));
    float angle = 6.2832f * random_float(), speed = power * sqrtf(random_float());
    *spark = (Spark){.next = sparks, .x = x, .y = y, .dx = speed * cosf(angle), .dy = speed * sinf(angle)};
    spark->life = 30 + (int)random_below(60);
    spark->color = color;
    sparks = spark;
  }
  live_sparks += count;

  Sound *sound = checked(malloc(sizeof *sound));
  *sound = (Sound){.next = sounds, .life = SHELL_STEPS};
  sounds = sound;
}

static void add_point(Spark *spark) {
  Point *point = checked(malloc(sizeof *point));
  *point = (Point){.x = spark->x, .y = spark->y};
  if (spark->last) spark->last->next = point;
  else spark->first = point;
  spark->last = point;
  spark->points++;
}

static void drop_point(Spark *spark) {
  Point *point = spark->first;
  spark->first = point->next;
  if (!spark->first) spark->last = NULL;
  spark->points--;
  free(point);
}

static void move_sparks(void) {
  for (Spark **link = &sparks; *link;) {
    Spark *spark = *link;
    spark->x += spark->dx;
    spark->y += spark->dy;
    spark->dy += 0.02f;
    spark->life--;
    if (spark->life > 0) add_point(spark);
    if (spark->points > TRAIL || spark->life <= 0) drop_point(spark);
    if (spark->points > 0) {
      link = &spark->next;
      continue;
    }
    hash = (hash ^ (uint32_t)(int)(spark->x * 16)) * 16777619u;
    *link = spark->next;
    live_sparks--;
    free(spark);
  }
}

// A sound grows as it echoes, by a different size each time.
static void play_sounds(void) {
  for (Sound **link = &sounds; *link;) {
    Sound *sound = *link;
    if (--sound->life <= 0) {
      *link = sound->next;
      free(sound->samples);
      free(sound);
      continue;
    }
    if (sound->life % 8 == 0) {
      size_t size = sound->size + 500 + random_below(6000);
      sound->samples = checked(realloc(sound->samples, size));
      memset(sound->samples + sound->size, sound->life, size - sound->size);
      sound->size = size;
    }
    if (sound->size) hash = (hash ^ sound->samples[sound->size / 2]) * 16777619u;
    link = &sound->next;
  }
}

EMSCRIPTEN_KEEPALIVE void step(void) {
  // Of every 300 steps, the last 100 launch no shells, so that the heap empties.
  if (steps % STEPS_A_SHELL == 0 && steps / 100 % 3 != 2) launch();
  move_sparks();
  play_sounds();
  steps++;
}

static void plot(float x, float y, int color, int brightness) {
  static const uint32_t colors[COLORS] = {0x4060ff, 0x40c0ff, 0x60ff80, 0xffc040, 0xff60c0, 0xe0e0e0};
  if (x < 0 || y < 0 || x >= WIDTH || y >= HEIGHT) return;
  uint32_t full = colors[color], shade = 0;
  for (int part = 0; part < 24; part += 8) shade |= ((full >> part & 255) * (uint32_t)brightness / TRAIL) << part;
  pixels[(int)y * WIDTH + (int)x] = 0xff000000 | shade;
}

// Returns WIDTH * HEIGHT pixels, RGBA.
EMSCRIPTEN_KEEPALIVE const uint32_t *draw(void) {
  if (!pixels) pixels = checked(malloc(sizeof *pixels * WIDTH * HEIGHT));
  for (int i = 0; i < WIDTH * HEIGHT; i++) pixels[i] = 0xff201008;
  for (const Spark *spark = sparks; spark; spark = spark->next) {
    int brightness = TRAIL - spark->points;
    for (const Point *point = spark->first; point; point = point->next) plot(point->x, point->y, spark->color, ++brightness);
  }
  return pixels;
}

EMSCRIPTEN_KEEPALIVE int width(void) { return WIDTH; }
EMSCRIPTEN_KEEPALIVE int height(void) { return HEIGHT; }
EMSCRIPTEN_KEEPALIVE int spark_count(void) { return live_sparks; }

// Independent of the malloc, unless it is broken.
EMSCRIPTEN_KEEPALIVE uint32_t checksum(void) { return hash; }

// Returns the bytes that malloc has taken from the system.
EMSCRIPTEN_KEEPALIVE size_t heap_bytes(void) {
  extern char __heap_base;
  return (size_t)((char *)sbrk(0) - &__heap_base);
}
