// Boxes that begin with what another's disk is, or was.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { after, describe, test } = require('node:test');
const { BoxliteError } = require('..');
const { gather, image, openRuntime, shell } = require('./helpers');

// Runs a script in a box, which is started first if it does not run, and compares its output.
async function says(box, script, wanted) {
  const { code, stdout, stderr } = await box.run(shell(script));
  assert.deepEqual([stdout.toString(), code], [wanted, 0], `${script}: ${stderr}`);
}

// What tells a box from all others.
async function identity(box) {
  const { stdout } = await box.run(shell('cat /etc/machine-id /etc/hostname'));
  assert.match(stdout.toString(), /^\w{32}\n\S+\n$/);
  return stdout.toString();
}

const names = (boxes) => boxes.map(({ name }) => name);

test('clones of a stopped box are boxes of their own', async (t) => {
  const { runtime, home } = openRuntime(t);
  const bases = () => fs.readdirSync(path.join(home, 'bases')).length;
  const source = await runtime.create(image, { name: 'source', memoryMib: 300, labels: { kind: 'sheep' } });
  await says(source, 'echo wool > /file; sync; cat /file', 'wool\n');
  const known = new Set([source.id, await identity(source)]);
  await source.stop();

  const made = await source.clones({ names: ['dolly', undefined, null, 'molly'] });
  assert.deepEqual(names(made), ['dolly', null, null, 'molly']);
  assert.equal(bases(), 1);
  for (const [n, clone] of made.entries()) {
    assert.equal(clone.constructor, source.constructor);
    const info = await clone.inspect();
    assert.deepEqual(
      [info.id, info.name, info.status, info.memoryMib, info.labels],
      [clone.id, clone.name, 'configured', 300, { kind: 'sheep' }],
    );
    await says(clone, `cat /file; echo ${n} > /file; sync`, 'wool\n');
    known.add(clone.id).add(await identity(clone));
    assert.equal(known.size, 2 * (n + 2));
  }
  await says(source, 'cat /file; echo cut > /file', 'wool\n');
  for (const [n, clone] of made.entries()) await says(clone, 'cat /file', `${n}\n`);
  assert.equal((await runtime.get('molly')).id, made[3].id);

  // What they are on stays until the last has gone.
  await runtime.remove('source', { force: true });
  for (const clone of made.slice(1)) await runtime.remove(clone.id, { force: true });
  assert.equal(bases(), 1);
  await says(made[0], 'cat /file', '0\n');
  await runtime.remove('dolly', { force: true });
  assert.equal(bases(), 0);
});

describe('clones', () => {
  const { runtime } = openRuntime({ after });

  test('of a running box are made beside its processes', async () => {
    const source = await runtime.create(image);
    const exec = await source.exec(shell('echo one > /file; read line; echo $line'), { stdin: true });
    await says(source, 'until grep -qs one /file; do usleep 10000; done', '');
    const first = await source.clone();
    assert.equal(first.name, null);
    assert.notEqual(first.id, source.id);
    await says(source, 'cat /file; echo two > /file', 'one\n');
    const second = await source.clone({ name: 'second' });
    assert.equal(second.name, 'second');
    await says(first, 'cat /file; echo first > /file', 'one\n');
    await says(second, 'cat /file; echo second > /file', 'two\n');
    const third = await second.clone({ name: null });
    assert.equal(third.name, null);
    await says(third, 'cat /file', 'second\n');
    await says(source, 'cat /file', 'two\n');
    exec.stdin.end('here\n');
    assert.equal((await gather(exec.stdout)).toString(), 'here\n');
  });

  test('of a snapshot begin with what the disk was then', async () => {
    const source = await runtime.create(image);
    await says(source, 'echo one > /file; cat /file', 'one\n');
    await source.createSnapshot('one');
    await says(source, 'echo two > /file; cat /file', 'two\n');
    const first = await source.clone({ snapshot: 'one', name: 'of-one' });
    const [, other] = await source.clones({ snapshot: 'one', count: 2 });
    assert.deepEqual(names([first, other]), ['of-one', null]);
    await says(first, 'cat /file; echo mine > /file', 'one\n');
    await says(other, 'cat /file', 'one\n');
    assert.deepEqual(await first.listSnapshots(), []);

    // They are on it, also when its box has gone.
    const based = { code: 'BOXLITE_INVALID_STATE', message: new RegExp(first.id) };
    await assert.rejects(source.removeSnapshot('one'), based);
    await runtime.remove(source.id, { force: true });
    await says(first, 'cat /file', 'mine\n');
  });

  test('are made at once, however many', async () => {
    const source = await runtime.create(image);
    await says(source, 'echo one > /file; sync', '');
    const made = await source.clones({ count: 50 });
    assert.equal(new Set([source, ...made].map(({ id }) => id)).size, 51);
    const listed = (await runtime.list()).map(({ id }) => id);
    for (const { id } of made) assert.ok(listed.includes(id), id);
    await says(made[37], 'cat /file', 'one\n');
  });
});

test('clones that are refused are not made', async (t) => {
  const { runtime } = openRuntime(t);
  const source = await runtime.create(image, { name: 'source' });
  const invalid = (object) => ({ code: 'BOXLITE_INVALID_ARGUMENT', ...(object && { object }) });
  const none = { code: 'BOXLITE_NOT_FOUND', message: /no snapshot 'none'/ };

  await assert.rejects(source.clone({ name: 'source' }), (error) => {
    assert.ok(error instanceof BoxliteError);
    assert.deepEqual([error.code, error.object, error.retryable], ['BOXLITE_ALREADY_EXISTS', 'source', false]);
    return true;
  });
  await assert.rejects(source.clone({ name: '' }), invalid());
  await assert.rejects(source.clone({ name: 'a b' }), invalid());
  await assert.rejects(source.clone({ name: 'a\0b' }), invalid('name'));
  await assert.rejects(source.clone({ name: 1 }), invalid('name'));
  await assert.rejects(source.clone({ snapshot: 'none' }), none);
  await assert.rejects(source.clone({ snapshot: null }), invalid('snapshot'));
  await assert.rejects(source.clone({ names: ['new'] }), invalid('names'));
  await assert.rejects(source.clone({ count: 1 }), invalid('count'));

  await assert.rejects(source.clones({ names: ['new', 'source'] }), { code: 'BOXLITE_ALREADY_EXISTS' });
  await assert.rejects(source.clones({ names: ['new', 'new'] }), { ...invalid(), message: /twice/ });
  await assert.rejects(source.clones({ names: ['new', 'a b'] }), invalid());
  await assert.rejects(source.clones({ names: ['new', 3] }), invalid('names[1]'));
  await assert.rejects(source.clones({ names: 'new' }), invalid('names'));
  await assert.rejects(source.clones({ names: new Array(2 ** 32 - 1) }), invalid('names'));
  await assert.rejects(source.clones({ names: ['new'], count: 1 }), invalid('count'));
  for (const count of [0, 1001, -1, 1.5, 2 ** 32, '1'])
    await assert.rejects(source.clones({ count }), invalid('count'), `${count}`);
  await assert.rejects(source.clones({ names: [] }), invalid('count'));
  await assert.rejects(source.clones(), invalid('count'));
  await assert.rejects(source.clones({ name: 'new', count: 1 }), invalid('name'));
  await assert.rejects(source.clones({ snapshot: 'none', count: 2 }), none);

  await source.start();
  await source.pause();
  await assert.rejects(source.clone(), { code: 'BOXLITE_INVALID_STATE', message: /resume it first/ });
  const signal = AbortSignal.abort();
  await assert.rejects(source.clone({ signal }), { name: 'AbortError' });
  await assert.rejects(source.clones({ count: 2, signal }), { name: 'AbortError' });
  assert.deepEqual(names(await runtime.list()), ['source']);

  await runtime.remove('source', { force: true });
  await assert.rejects(source.clone(), { code: 'BOXLITE_NOT_FOUND' });
  source.close();
  await assert.rejects(source.clone(), { code: 'BOXLITE_INVALID_STATE' });
  await assert.rejects(source.clones({ count: 2 }), { code: 'BOXLITE_INVALID_STATE' });
  assert.deepEqual(await runtime.list(), []);
});
