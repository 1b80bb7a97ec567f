// Boxes as files.
'use strict';

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { after, describe, test } = require('node:test');
const { BoxliteError, Runtime } = require('..');
const { image, openRuntime, runScript, shell } = require('./helpers');

// A directory that goes with the test or the suite.
function newPlace(t) {
  const place = fs.mkdtempSync(path.join(os.tmpdir(), 'boxlite-node-archives-'));
  t.after(() => fs.rmSync(place, { recursive: true }));
  return place;
}

// Runs a script in a box, which is started first if it does not run, and compares its output.
async function says(box, script, wanted) {
  const { code, stdout, stderr } = await box.run(shell(script));
  assert.deepEqual([stdout.toString(), code], [wanted, 0], `${script}: ${stderr}`);
}

// Writes an archive, and compares its path.
async function writes(box, to, options, wanted) {
  assert.equal(await box.export(to, options), wanted);
  assert.ok(fs.statSync(wanted).isFile());
}

async function goesBack(box, name) {
  await box.stop();
  await box.restoreSnapshot(name);
}

// What was told: all of it, of at least so many bytes.
function isWhole(told, least) {
  const total = told[0].bytesTotal;
  assert.ok(total >= least);
  assert.equal(told.at(-1).bytesDone, total);
  for (const [n, progress] of told.entries()) {
    assert.deepEqual(Object.keys(progress), ['bytesDone', 'bytesTotal']);
    assert.equal(progress.bytesTotal, total);
    assert.ok(n === 0 || progress.bytesDone >= told[n - 1].bytesDone, JSON.stringify(told));
  }
}

test('an archive becomes a box elsewhere', async (t) => {
  const place = newPlace(t);
  const source = await openRuntime(t).runtime.create(image, {
    name: 'source',
    memoryMib: 300,
    diskSizeMib: 200,
    env: { COLOUR: 'blue' },
    labels: { kind: 'kept' },
  });
  await says(source, 'head -c 3000000 /dev/urandom > /random; ln -s random /link; sha256sum /random > /sum; sync', '');
  await source.stop();
  const archive = path.join(place, 'source.boxlite');
  await writes(source, place, undefined, archive);
  const deep = path.join(place, 'a', 'b', 'c');
  await writes(source, deep, {}, deep);

  const { runtime } = openRuntime(t);
  const box = await runtime.import(archive);
  assert.equal(box.constructor, source.constructor);
  assert.notEqual(box.id, source.id);
  const info = await box.inspect();
  assert.deepEqual(
    [info.name, info.memoryMib, info.diskSizeMib, info.labels, info.image, info.status],
    ['source', 300, 200, { kind: 'kept' }, 'busybox', 'configured'],
  );
  await says(box, 'sha256sum -c /sum && readlink /link && echo $COLOUR', '/random: OK\nrandom\nblue\n');

  // Its name is taken now; others can have another, or none.
  assert.equal((await runtime.import(deep, { name: 'other', trusted: true })).name, 'other');
  const nameless = await runtime.import(deep, { name: null });
  assert.equal(nameless.name, null);
  await writes(nameless, place, {}, path.join(place, 'box.boxlite'));
  assert.deepEqual((await runtime.list()).map(({ name }) => name), [null, 'other', 'source']);
});

test('an archive has one snapshot, or all', async (t) => {
  const place = newPlace(t);
  const { runtime } = openRuntime(t);
  const source = await runtime.create(image, { diskSizeMib: 64 });
  await says(source, 'echo one > /file; sync', '');
  await source.createSnapshot('one');
  await says(source, 'echo two > /file; sync', '');
  await source.stop();
  await source.createSnapshot('säge');
  await says(source, 'echo now > /file; sync', '');

  // While it runs, too.
  const [one, all] = ['one', 'all'].map((name) => path.join(place, name));
  await writes(source, one, { snapshot: 'one' }, one);
  await writes(source, all, { withSnapshots: true }, all);

  const first = await runtime.import(one);
  assert.deepEqual(await first.listSnapshots(), []);
  await says(first, 'cat /file', 'one\n');
  const box = await runtime.import(all, { name: 'all' });
  const listed = await box.listSnapshots();
  assert.deepEqual(
    listed.map(({ name, parent, boxId }) => [name, parent, boxId]),
    [['one', null, box.id], ['säge', 'one', box.id]],
  );
  await says(box, 'cat /file', 'now\n');
  await goesBack(box, 'one');
  await says(box, 'cat /file', 'one\n');
  await goesBack(box, 'säge');
  await says(box, 'cat /file', 'two\n');
});

describe('archives of much', () => {
  const bytes = 100_000_000;
  const place = newPlace({ after });
  const { runtime, home } = openRuntime({ after });
  const [archive, none] = ['large', 'none'].map((name) => path.join(place, name));
  const uses = {
    export: (box, options) => box.export(none, options),
    import: (_, options) => runtime.import(archive, { name: null, ...options }),
  };
  let box;

  test('are followed', async () => {
    box = await runtime.create(image, { name: 'large' });
    // Bytes that cannot be made smaller, without starting it.
    const disk = path.join(home, 'boxes', box.id, 'disks', 'disk.qcow2');
    const random = path.join(place, 'random');
    const script = 'head -c "$1" /dev/urandom > "$2" && qemu-io -c "write -q -s $2 1G $1" "$3" && rm "$2"';
    execFileSync('sh', ['-c', script, 'sh', bytes, random, disk]);

    const told = [];
    await writes(box, archive, { onProgress: (progress) => told.push(progress) }, archive);
    isWhole(told, bytes);
    told.length = 0;
    const made = await uses.import(box, { onProgress: (progress) => told.push(progress) });
    isWhole(told, bytes);
    await runtime.remove(made.id);
  });

  for (const [name, use] of Object.entries(uses)) {
    test(`are not there if the ${name} was aborted`, async () => {
      const before = fs.readdirSync(home, { recursive: true }).sort();
      const nothingIsLeft = () => {
        assert.deepEqual(fs.readdirSync(home, { recursive: true }).sort(), before);
        assert.deepEqual(fs.readdirSync(place), ['large']);
      };
      const controller = new AbortController();
      const { signal } = controller;
      let told = 0;
      const onProgress = () => {
        told++;
        controller.abort();
      };
      const aborted = { name: 'AbortError', code: 'ABORT_ERR' };
      await assert.rejects(use(box, { signal, onProgress }), aborted);
      assert.equal(told, 1);
      nothingIsLeft();
      await assert.rejects(use(box, { signal, onProgress }), aborted);
      assert.equal(told, 1);
      nothingIsLeft();
      assert.deepEqual((await runtime.list()).map(({ id }) => id), [box.id]);
    });
  }
});

// The programs end inside the function that is told.
for (const [what, end, wanted] of [
  ['what is thrown there is an uncaught exception', 'throw new Error("told")', /^caught told\n$/],
  ['the program may end there', 'process.exit(3)', /^$/],
]) {
  test(`whoever follows an archive: ${what}`, async (t) => {
    const place = newPlace(t);
    const { code, stdout, stderr } = await runScript(t, `
      process.on('uncaughtException', (error) => {
        console.log('caught ' + error.message);
        process.exit(3);
      });
      const runtime = new boxlite.Runtime({ home });
      const box = await runtime.create(image);
      await box.export(${JSON.stringify(path.join(place, 'box'))}, { onProgress() { ${end}; } });
      console.log('exported');
    `);
    assert.equal(code, 3, stderr);
    assert.match(stdout, wanted);
  });
}

test('archives that are refused are not made, nor boxes of them', async (t) => {
  const place = newPlace(t);
  const { runtime } = openRuntime(t);
  const box = await runtime.create(image, { name: 'box', diskSizeMib: 64 });
  const archive = path.join(place, 'box.boxlite');
  await writes(box, place, {}, archive);
  const [half, none] = ['half', 'none'].map((name) => path.join(place, name));
  const whole = fs.readFileSync(archive);
  fs.writeFileSync(half, whole.subarray(0, whole.length / 2));
  const invalid = (object) => ({ code: 'BOXLITE_INVALID_ARGUMENT', ...(object && { object }) });
  const says = (message) => ({ ...invalid(), message });
  const exists = { code: 'BOXLITE_ALREADY_EXISTS' };

  await assert.rejects(box.export(place), (error) => {
    assert.ok(error instanceof BoxliteError);
    assert.deepEqual([error.code, error.retryable], ['BOXLITE_ALREADY_EXISTS', false]);
    assert.match(error.message, /box\.boxlite exists already/);
    return true;
  });
  await assert.rejects(box.export(''), invalid('path'));
  await assert.rejects(box.export(), invalid('path'));
  await assert.rejects(box.export(`${none}\0`), invalid('path'));
  await assert.rejects(box.export('/proc/none/x'), { code: 'BOXLITE_STORAGE', message: /\/proc\/none/ });
  await assert.rejects(box.export(none, { snapshot: 'none' }), { code: 'BOXLITE_NOT_FOUND', message: /'none'/ });
  await assert.rejects(box.export(none, { snapshot: 'a/b' }), says(/a\/b/));
  await assert.rejects(box.export(none, { snapshot: null }), invalid('snapshot'));
  await assert.rejects(box.export(none, { withSnapshots: 1 }), invalid('withSnapshots'));
  await assert.rejects(box.export(none, { snapshot: 'one', withSnapshots: true }), says(/with_snapshots/));
  await assert.rejects(box.export(none, { name: 'other' }), invalid('name'));
  for (const onProgress of [null, 1, {}])
    await assert.rejects(box.export(none, { onProgress }), invalid('onProgress'));

  await assert.rejects(runtime.import(archive), exists);
  await assert.rejects(runtime.import(archive, { name: 'box' }), exists);
  for (const name of ['', 'a b']) await assert.rejects(runtime.import(archive, { name }), invalid(), name);
  for (const name of ['a\0b', 1]) await assert.rejects(runtime.import(archive, { name }), invalid('name'));
  await assert.rejects(runtime.import(archive, { name: 'new', trusted: null }), invalid('trusted'));
  await assert.rejects(runtime.import(archive, { name: 'new', snapshot: 'one' }), invalid('snapshot'));
  await assert.rejects(runtime.import(archive, { name: 'new', onProgress: 1 }), invalid('onProgress'));
  await assert.rejects(runtime.import(none), { code: 'BOXLITE_NOT_FOUND', message: /none/ });
  await assert.rejects(runtime.import(1), invalid('path'));
  await assert.rejects(runtime.import(place), says(/no file/));
  await assert.rejects(runtime.import(`${image}.docker`), says(/no archive of a box/));
  await assert.rejects(runtime.import(half, { name: null }), says(/half/));

  await box.start();
  await box.pause();
  await assert.rejects(box.export(none), { code: 'BOXLITE_INVALID_STATE', message: /paused/ });
  assert.deepEqual((await runtime.list()).map(({ name }) => name), ['box']);

  await runtime.remove('box', { force: true });
  await assert.rejects(box.export(none), { code: 'BOXLITE_NOT_FOUND' });
  box.close();
  await assert.rejects(box.export(none), { code: 'BOXLITE_INVALID_STATE' });
  assert.deepEqual(await runtime.list(), []);
  assert.deepEqual(fs.readdirSync(place).sort(), ['box.boxlite', 'half']);
  const closed = new Runtime({ home: path.join(place, 'home') });
  closed.close();
  await assert.rejects(closed.import(archive), { code: 'BOXLITE_INVALID_STATE' });
});
