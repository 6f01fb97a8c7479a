/*
 * A real program with real data: SQLite with a table of the world's cities in memory. It reads them as lines from stdin,
 * fills and indexes a database, and queries, sorts, joins and updates it. The output does not depend on the allocator; the
 * time of each phase, in seconds, goes to stderr.
 *
 * Lines have tab-separated fields, and the first field is the kind of the line:
 *
 *     region    code  name                                    code: COUNTRY.REGION
 *     district  code  name                                    code: COUNTRY.REGION.DISTRICT
 *     city      name  latitude  longitude  country  region  district
 */
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LONGEST_LINE = 1000, MOST_FIELDS = 7 };

static sqlite3 *database;

/* The results of the queries of a phase: the number of rows, and a hash (FNV-1a) of the text of all cells. */
static struct {
  long rows;
  uint64_t checksum;
} results;

static void fail(const char *what) {
  fprintf(stderr, "%s: %s\n", what, sqlite3_errmsg(database));
  exit(EXIT_FAILURE);
}

static void execute(const char *sql) {
  if (sqlite3_exec(database, sql, NULL, NULL, NULL) != SQLITE_OK) fail(sql);
}

static sqlite3_stmt *prepare(const char *sql) {
  sqlite3_stmt *statement;
  if (sqlite3_prepare_v2(database, sql, -1, &statement, NULL) != SQLITE_OK) fail(sql);
  return statement;
}

static void add_to_checksum(const char *text) {
  do results.checksum = (results.checksum ^ (unsigned char)*text) * 1099511628211u;
  while (*text++);
}

/* Runs a statement to its end and adds its rows to the results. With `show`, also prints them. */
static void collect(sqlite3_stmt *statement, int show) {
  int step;
  while ((step = sqlite3_step(statement)) == SQLITE_ROW) {
    results.rows++;
    for (int column = 0; column < sqlite3_column_count(statement); column++) {
      const char *text = (const char *)sqlite3_column_text(statement, column);
      add_to_checksum(text ? text : "");
      if (show) printf("%s%s", column ? ", " : "  ", text ? text : "-");
    }
    if (show) putchar('\n');
  }
  if (step != SQLITE_DONE) fail(sqlite3_sql(statement));
  sqlite3_reset(statement);
}

static void query(const char *sql, int show) {
  sqlite3_stmt *statement = prepare(sql);
  collect(statement, show);
  sqlite3_finalize(statement);
}

/* Splits a line into fields, in place. Returns their number. */
static int split(char *line, char *fields[MOST_FIELDS]) {
  int count = 0;
  line[strcspn(line, "\n")] = '\0';
  while (line && count < MOST_FIELDS) {
    fields[count++] = line;
    line = strchr(line, '\t');
    if (line) *line++ = '\0';
  }
  return count;
}

static void load(void) {
  execute("create table region(code text primary key, name text) without rowid;"
          "create table district(code text primary key, name text) without rowid;"
          "create table city(id integer primary key, name text, latitude real, longitude real,"
          " country text, region text, district text);"
          "begin");
  sqlite3_stmt *region = prepare("insert into region values (?, ?)");
  sqlite3_stmt *district = prepare("insert or ignore into district values (?, ?)");
  sqlite3_stmt *city = prepare("insert into city(name, latitude, longitude, country, region, district)"
                               " values (?1, ?2, ?3, ?4, ?4 || '.' || ?5, ?4 || '.' || ?5 || '.' || ?6)");
  char line[LONGEST_LINE];
  while (fgets(line, sizeof line, stdin)) {
    char *fields[MOST_FIELDS];
    int count = split(line, fields);
    sqlite3_stmt *insert = *line == 'r' ? region : *line == 'd' ? district : city;
    for (int i = 1; i < count; i++) sqlite3_bind_text(insert, i, fields[i], -1, SQLITE_TRANSIENT);
    collect(insert, 0);
  }
  sqlite3_finalize(region);
  sqlite3_finalize(district);
  sqlite3_finalize(city);
  execute("commit");
  query("select (select count(*) from city) || ' cities', (select count(*) from region) || ' regions',"
        " (select count(*) from district) || ' districts'",
        1);
}

static void build_indexes(void) {
  execute("create index city_name on city(name);"
          "create index city_district on city(district);"
          "create index city_place on city(country, latitude, longitude)");
  query("analyze", 0);
}

/* Small queries, as on a server: most reuse a prepared statement, some prepare a new one. */
static void look_up(void) {
  sqlite3_stmt *by_id = prepare("select name, country from city where id = ?");
  sqlite3_stmt *by_name = prepare("select id, country, district from city where name = ? order by id limit 20");
  for (int i = 1; i < 60000; i++) {
    sqlite3_bind_int(by_id, 1, i * 7919 % 170000);
    if (sqlite3_step(by_id) == SQLITE_ROW) {
      sqlite3_bind_text(by_name, 1, (const char *)sqlite3_column_text(by_id, 0), -1, SQLITE_TRANSIENT);
      collect(by_name, 0);
    }
    sqlite3_reset(by_id);
  }
  sqlite3_finalize(by_id);
  sqlite3_finalize(by_name);
  for (int i = 0; i < 4000; i++) {
    char sql[300];
    snprintf(sql, sizeof sql,
             "select name, printf('%%.2f', latitude) from city where country = (select country from city where id = %d)"
             " and latitude between %d and %d and name like '%c%%' order by longitude limit 10",
             1 + i * 104729 % 170000, i % 120 - 60, i % 120 - 50, 'A' + i % 26);
    query(sql, 0);
  }
}

static void sort(void) {
  query("select name, country from city order by name collate nocase, longitude", 0);
  query("select name, group_concat(distinct country) from city group by name having count(distinct country) > 5"
        " order by count(*) desc, name",
        0);
  puts("The most frequent names:");
  query("select name, count(*), count(distinct country) from city group by name order by 2 desc, 1 limit 5", 1);
}

static void join(void) {
  puts("The regions with the most cities:");
  query("select region.name, city.country, count(*), round(avg(latitude), 1) from city join region on region.code = region"
        " group by region.code order by 3 desc limit 5",
        1);
  query("select city.name, district.name, region.name from city join district on district.code = city.district"
        " join region on region.code = city.region where city.name = district.name order by city.id",
        0);
  query("select a.name, a.country, count(*) from city a join city b on b.name = a.name and b.country = a.country"
        " and b.id > a.id and abs(b.latitude - a.latitude) < 0.1 and abs(b.longitude - a.longitude) < 0.1"
        " group by a.name, a.country order by 3 desc, 1, 2",
        0);
}

static void update(void) {
  execute("begin;"
          "update city set name = upper(substr(name, 1, 1)) || substr(name, 2) || ' (' || country || ')' where id % 3 = 0;"
          "update city set latitude = -latitude where country in (select country from city group by country"
          " having count(*) < 100);"
          "delete from city where id % 10 = 7;"
          "insert into city(name, latitude, longitude, country, region, district)"
          " select name || ' II', latitude, longitude, country, region, district from city where id % 11 = 0;"
          "commit");
  query("select id, name from city where id % 97 = 0 order by id", 0);
  /* A rollback leaves no trace. */
  execute("begin; delete from city where latitude > 0; update region set name = lower(name); rollback");
  query("select count(*), count(distinct name), round(sum(latitude), 3) from city", 1);
}

int main(void) {
  static const struct {
    const char *name;
    void (*run)(void);
  } phases[] = {{"load", load},   {"index", build_indexes}, {"look up", look_up},
                {"sort", sort}, {"join", join},           {"update", update}};

  if (sqlite3_open(":memory:", &database) != SQLITE_OK) fail("open");
  for (size_t i = 0; i < sizeof phases / sizeof *phases; i++) {
    struct timespec start, end;
    results.rows = 0;
    results.checksum = 14695981039346656037u;
    clock_gettime(CLOCK_MONOTONIC, &start);
    phases[i].run();
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%s: %ld rows, checksum %016llx\n", phases[i].name, results.rows, (unsigned long long)results.checksum);
    fprintf(stderr, "%s\t%.3f\n", phases[i].name,
            (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9);
  }
  if (sqlite3_close(database) != SQLITE_OK) fail("close");
  return EXIT_SUCCESS;
}
