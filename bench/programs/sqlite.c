// Fills an in-memory database, builds indices, then queries, joins, sorts and, in transactions, updates.
#include "sqlite3.h"
#include <stdio.h>
#include <stdlib.h>

static sqlite3 *db;

static void execute(const char *sql) {
  char *message = NULL;
  if (sqlite3_exec(db, sql, NULL, NULL, &message) == SQLITE_OK) return;
  fprintf(stderr, "%s\n", message);
  exit(1);
}

int main(void) {
  if (sqlite3_open(":memory:", &db) != SQLITE_OK) return 1;
  execute("create table person(id integer primary key, name text, city text, born integer, notes text);"
          "create table visit(id integer primary key, person integer, place text, cost real);"
          "begin;"
          "with recursive n(i) as (select 1 union all select i + 1 from n where i < 6000)"
          " insert into person select i, printf('name %d %x', i * 7919 % 6000, i * i), printf('city %d', i % 97),"
          " 1920 + i * 31 % 100, substr(hex(zeroblob(60)), 1, i * 17 % 120) from n;"
          "with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)"
          " insert into visit select i, 1 + i * 7907 % 6000, printf('place %d', i * 13 % 500), i % 1000 / 10.0 from n;"
          "commit;"
          "create index person_city on person(city, born);"
          "create index visit_person on visit(person);");

  sqlite3_stmt *insert;
  sqlite3_prepare_v2(db, "insert into person(name, city, born, notes) values (?, ?, ?, ?)", -1, &insert, NULL);
  execute("begin");
  for (int i = 0; i < 5000; i++) {
    char name[64], city[32];
    sqlite3_bind_text(insert, 1, name, snprintf(name, sizeof name, "added %d of %d", i, i * 31), SQLITE_TRANSIENT);
    sqlite3_bind_text(insert, 2, city, snprintf(city, sizeof city, "city %d", i % 41), SQLITE_TRANSIENT);
    sqlite3_bind_int(insert, 3, 1900 + i % 120);
    sqlite3_bind_null(insert, 4);
    sqlite3_step(insert);
    sqlite3_reset(insert);
  }
  sqlite3_finalize(insert);
  execute("commit");

  for (int i = 0; i < 600; i++) {
    char sql[400];
    snprintf(sql, sizeof sql, "select name, born from person where city = 'city %d' and born > %d order by name limit 20", i % 97,
             1920 + i % 90);
    execute(sql);
    snprintf(sql, sizeof sql,
             "select p.city, count(*), sum(v.cost) from person p join visit v on v.person = p.id where p.id between %d and %d "
             "group by p.city order by 3 desc",
             i * 9, i * 9 + 60);
    execute(sql);
    if (i % 10 == 0) {
      snprintf(sql, sizeof sql, "begin; update person set notes = notes || ' moved', city = 'city %d' where id %% 100 = %d; commit", i % 50, i % 100);
      execute(sql);
      snprintf(sql, sizeof sql, "select upper(name), group_concat(place, ', ') from person join visit on person = person.id where born = %d group by name", 1920 + i % 100);
      execute(sql);
    }
  }
  execute("delete from visit where cost < 20; select json_group_array(json_object('name', name, 'city', city)) from person;");
  sqlite3_close(db);
}
