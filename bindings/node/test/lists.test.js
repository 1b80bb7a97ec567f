// Which boxes are listed, and how one is that cannot be read.
'use strict';

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { after, before, describe, test } = require('node:test');
const { BoxliteError } = require('..');
const { image, openRuntime } = require('./helpers');

const refused = (object) => ({ code: 'BOXLITE_INVALID_ARGUMENT', object });

describe('a list', () => {
  const { runtime } = openRuntime({ after });
  let blue, red, plain;
  before(async () => {
    blue = await runtime.create(image, { name: 'web-blue', labels: { colour: 'blue', tier: 'front' } });
    red = await runtime.create(image, { name: 'web-red', labels: { colour: 'red', unset: undefined } });
    plain = await runtime.create(image);
  });

  async function lists(filter, ...boxes) {
    const found = await runtime.list(filter);
    assert.deepEqual(found.map(({ id }) => id), boxes.map(({ id }) => id));
  }

  test('is of all boxes, the newest first', async () => {
    await lists(undefined, plain, red, blue);
    await lists({}, plain, red, blue);
    await lists({ status: undefined, labels: {}, namePrefix: undefined }, plain, red, blue);
  });

  test('is of those with labels', async () => {
    await lists({ labels: { colour: true } }, red, blue);
    await lists({ labels: { colour: 'blue' } }, blue);
    await lists({ labels: { colour: 'red', tier: true } });
    await lists({ labels: { colour: 'blue', tier: 'front', none: undefined } }, blue);
    await lists({ labels: { colour: '' } });
  });

  test('is of those with a name or an image', async () => {
    await lists({ namePrefix: 'web-' }, red, blue);
    await lists({ namePrefix: 'web-r' }, red);
    await lists({ namePrefix: 'eb-' });
    await lists({ image }, plain, red, blue);
    await lists({ image: 'busybox' });
    await lists({ image, namePrefix: 'web-', labels: { colour: 'blue' } }, blue);
  });

  test('is of those with a status', async () => {
    await red.start();
    await lists({ status: 'running' }, red);
    await lists({ status: ['configured'] }, plain, blue);
    await lists({ status: ['running', 'configured'] }, plain, red, blue);
    await lists({ status: ['stopped', 'failed', 'unknown'] });
    await lists({ status: ['running', 'configured'], namePrefix: 'web-b' }, blue);
  });

  test('refuses a filter that it does not understand', async () => {
    await assert.rejects(runtime.list({ name: 'a' }), refused('name'));
    await assert.rejects(runtime.list({ status: 'ended' }), refused('status'));
    await assert.rejects(runtime.list({ status: '' }), refused('status'));
    await assert.rejects(runtime.list({ status: ['running', 3] }), refused('status[1]'));
    await assert.rejects(runtime.list({ status: [] }), refused('status'));
    await assert.rejects(runtime.list({ labels: ['colour'] }), refused('labels'));
    await assert.rejects(runtime.list({ labels: 'colour' }), refused('labels'));
    await assert.rejects(runtime.list({ labels: { colour: false } }), refused('labels.colour'));
    await assert.rejects(runtime.list({ labels: { 'a b': true } }), refused('name'));
    await assert.rejects(runtime.list({ namePrefix: '' }), refused('prefix'));
    await assert.rejects(runtime.list({ namePrefix: 1 }), refused('namePrefix'));
    await assert.rejects(runtime.list({ signal: AbortSignal.abort() }), { name: 'AbortError' });
  });
});

test('labels are told as they were given', async (t) => {
  const { runtime } = openRuntime(t);
  const labels = Object.fromEntries([
    ['a.b/c-d_E9', 'ä "quoted"\n'],
    ['empty', ''],
    ['__proto__', 'of its own'],
    ['toString', 'long'.repeat(1024)],
  ]);
  const box = await runtime.create(image, { labels });
  const info = await box.inspect();
  assert.deepEqual(info.labels, labels);
  assert.deepEqual(Object.keys(info.labels), ['__proto__', 'a.b/c-d_E9', 'empty', 'toString']);
  assert.deepEqual((await runtime.list({ labels }))[0], info);
  assert.deepEqual((await (await runtime.create(image)).inspect()).labels, {});

  const make = (made) => runtime.create(image, { labels: made });
  await assert.rejects(make({ count: 1 }), refused('labels.count'));
  await assert.rejects(make({ set: true }), refused('labels.set'));
  await assert.rejects(make('colour'), refused('labels'));
  await assert.rejects(make({ 'a b': '' }), refused('name'));
  await assert.rejects(make({ long: 'x'.repeat(4097) }), refused('value'));
  assert.equal((await runtime.list()).length, 2);
});

test('a box that cannot be read hides no other, and can be removed', async (t) => {
  const { runtime, home } = openRuntime(t);
  const make = (name) => runtime.create(image, { name, labels: { kind: 'test' } });
  await make('good');
  await make('config');
  const held = await make('state');
  const sql = (text) =>
    execFileSync('sqlite3', ['-bail', path.join(home, 'db/boxlite.db'), '.timeout 10000', text]);
  sql("UPDATE box_config SET json = substr(json, 1, 40) WHERE name = 'config'");
  sql("UPDATE box_state SET json = '{' WHERE id = (SELECT id FROM box_config WHERE name = 'state')");

  const [state, config, good] = await runtime.list();
  assert.deepEqual([state.name, state.status, state.labels], ['state', 'unknown', { kind: 'test' }]);
  assert.match(state.error, /state/);
  assert.deepEqual([config.name, config.status, config.labels], ['config', 'unknown', {}]);
  assert.match(config.error, /configuration/);
  assert.deepEqual([config.image, config.cpus, config.pid, config.main], ['', 0, null, null]);
  assert.ok(Math.abs(Date.now() - config.createdAt) < 600_000);
  assert.deepEqual([good.name, good.status, good.error], ['good', 'configured', null]);
  assert.deepEqual(await runtime.list({ status: 'unknown' }), [state, config]);

  const unreadable = (why) => (error) => {
    assert.ok(error instanceof BoxliteError);
    assert.deepEqual([error.code, error.status], ['BOXLITE_METADATA', 18]);
    assert.match(error.message, why);
    return true;
  };
  await assert.rejects(runtime.get('config'), unreadable(/configuration/));
  await assert.rejects(runtime.get('state'), unreadable(/state/));
  await assert.rejects(held.start(), unreadable(/state/));
  await assert.rejects(held.inspect(), unreadable(/state/));

  await runtime.remove('config');
  await runtime.remove(held.id, { force: true });
  assert.deepEqual((await runtime.list()).map(({ name }) => name), ['good']);
  assert.equal(fs.readdirSync(path.join(home, 'boxes')).length, 1);
});
