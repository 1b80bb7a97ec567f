// What boxes' disks were, and how they become that again.
'use strict';

const assert = require('node:assert/strict');
const { after, describe, test } = require('node:test');
const { BoxliteError } = require('..');
const { gather, image, openRuntime, shell } = require('./helpers');

const MIB = 1024 * 1024;

describe('snapshots', () => {
  const { runtime } = openRuntime({ after });

  // Compares the names of a box's snapshots.
  async function has(box, ...names) {
    const snapshots = await box.listSnapshots();
    assert.deepEqual(snapshots.map(({ name }) => name), names);
    return snapshots;
  }

  // Runs a script in a box, which is started first if it does not run, and compares its output.
  async function says(box, script, wanted) {
    const { code, stdout, stderr } = await box.run(shell(script));
    assert.deepEqual([stdout.toString(), code], [wanted, 0], `${script}: ${stderr}`);
  }

  async function goesBack(box, name) {
    await box.stop();
    await box.restoreSnapshot(name);
  }

  test('of a stopped box are made, listed, gone back to, and removed', async () => {
    const box = await runtime.create(image, { diskSizeMib: 64 });
    await has(box);
    const empty = await box.createSnapshot('empty');
    assert.deepEqual(Object.keys(empty), [
      'id', 'boxId', 'name', 'createdAt', 'parent', 'virtualBytes', 'allocatedBytes',
    ]);
    assert.deepEqual([empty.boxId, empty.name, empty.parent], [box.id, 'empty', null]);
    assert.equal(empty.virtualBytes, 64 * MIB);
    assert.ok(Math.abs(Date.now() - empty.createdAt) < 600_000);

    await says(box, 'dd if=/dev/urandom of=/data bs=1M count=2 2>/dev/null; echo one > /file', '');
    await box.stop();
    const one = await box.createSnapshot('one');
    assert.equal(one.parent, 'empty');
    assert.match(one.id, /^\w{26}$/);
    assert.notEqual(one.id, empty.id);
    assert.ok(one.allocatedBytes >= 2 * MIB && one.allocatedBytes < 64 * MIB, `${one.allocatedBytes}`);
    assert.ok(empty.allocatedBytes < 2 * MIB, `${empty.allocatedBytes}`);
    await says(box, 'cat /file; echo two > /file', 'one\n');
    await box.stop();
    const two = await box.createSnapshot('two');
    assert.deepEqual(await has(box, 'empty', 'one', 'two'), [empty, one, two]);
    assert.deepEqual(await box.getSnapshot('one'), one);
    assert.equal(await box.getSnapshot('three'), null);

    await goesBack(box, 'one');
    await says(box, 'cat /file; echo lost > /file', 'one\n');
    await goesBack(box, 'two');
    await says(box, 'cat /file', 'two\n');
    await goesBack(box, 'empty');
    await says(box, 'ls /file 2>&1 || true', 'ls: /file: No such file or directory\n');
    await box.stop();

    const based = { code: 'BOXLITE_INVALID_STATE', message: /snapshots\/one\/disk\.qcow2/ };
    await assert.rejects(box.removeSnapshot('empty'), based);
    await has(box, 'empty', 'one', 'two');
    assert.equal(await box.removeSnapshot('one'), undefined);
    await goesBack(box, 'two');
    await says(box, 'cat /file', 'two\n');
    await goesBack(box, 'empty');
    await box.removeSnapshot('two');
    await has(box, 'empty');
    await says(box, 'echo up', 'up\n');
  });

  test('of a running box are made beside its processes', async () => {
    const box = await runtime.create(image);
    const exec = await box.exec(shell('echo written > /file; read line; echo $line'), { stdin: true });
    await says(box, 'until grep -qs written /file; do usleep 10000; done', '');
    await box.createSnapshot('first');
    await says(box, 'echo more > /more; sync', '');
    const second = await box.createSnapshot('second');
    assert.equal(second.parent, 'first');
    assert.ok(second.allocatedBytes > 0);
    await says(box, 'rm /file; sync; cat /more', 'more\n');

    exec.stdin.end('here\n');
    assert.equal((await gather(exec.stdout)).toString(), 'here\n');
    const runs = { code: 'BOXLITE_INVALID_STATE', message: /stop it first/ };
    await assert.rejects(box.restoreSnapshot('first'), runs);

    await goesBack(box, 'second');
    await says(box, 'cat /file /more', 'written\nmore\n');
    await goesBack(box, 'first');
    await says(box, 'cat /file; ls /more 2>/dev/null || echo none', 'written\nnone\n');
    await box.removeSnapshot('second');
    await has(box, 'first');
    await says(box, 'cat /file', 'written\n');
  });

  test('of a paused box are not made', async () => {
    const box = await runtime.create(image);
    await box.start();
    await box.pause();
    const paused = { code: 'BOXLITE_INVALID_STATE', message: /resume it first/ };
    await assert.rejects(box.createSnapshot('paused'), paused);
    await has(box);
    await box.resume();
    await box.createSnapshot('resumed');
    await has(box, 'resumed');
  });

  const uses = ['createSnapshot', 'getSnapshot', 'restoreSnapshot', 'removeSnapshot'];

  test('have names with rules', async () => {
    const box = await runtime.create(image);
    const refused = { code: 'BOXLITE_INVALID_ARGUMENT' };
    for (const use of uses) {
      for (const bad of ['', '..', '.hidden', 'a/b', 'a\\b', 'n'.repeat(256)])
        await assert.rejects(box[use](bad), { ...refused, message: /snapshot's name/ }, `${use} ${bad}`);
      for (const bad of ['a\0b', 1, null, undefined])
        await assert.rejects(box[use](bad), { ...refused, object: 'name' }, `${use} ${bad}`);
    }
    for (const good of ['a b', 'säge', 'n'.repeat(255)]) {
      const { name } = await box.createSnapshot(good);
      assert.equal(name, good);
      assert.equal((await box.getSnapshot(good)).name, good);
    }
    await assert.rejects(box.createSnapshot('säge'), (error) => {
      assert.ok(error instanceof BoxliteError);
      assert.deepEqual([error.code, error.object, error.retryable], ['BOXLITE_ALREADY_EXISTS', 'säge', false]);
      return true;
    });
    const none = { code: 'BOXLITE_NOT_FOUND', message: /no snapshot 'none'/ };
    await assert.rejects(box.restoreSnapshot('none'), none);
    await assert.rejects(box.removeSnapshot('none'), none);
    await has(box, 'a b', 'säge', 'n'.repeat(255));
  });

  test('can be aborted, and are refused of a box that is gone', async () => {
    const box = await runtime.create(image);
    const signal = AbortSignal.abort();
    for (const use of uses) await assert.rejects(box[use]('late', { signal }), { name: 'AbortError' }, use);
    await assert.rejects(box.listSnapshots({ signal }), { name: 'AbortError' });
    await has(box);
    await runtime.remove(box.id);
    await assert.rejects(box.createSnapshot('late'), { code: 'BOXLITE_NOT_FOUND' });
    await assert.rejects(box.restoreSnapshot('late'), { code: 'BOXLITE_NOT_FOUND' });
    box.close();
    for (const use of uses) await assert.rejects(box[use]('late'), { code: 'BOXLITE_INVALID_STATE' }, use);
    await assert.rejects(box.listSnapshots(), { code: 'BOXLITE_INVALID_STATE' });
  });
});
