'use strict';

const assert = require('node:assert/strict');
const { createHash, randomBytes } = require('node:crypto');
const { once } = require('node:events');
const { Readable, Writable } = require('node:stream');
const { finished, pipeline } = require('node:stream/promises');
const { after, before, describe, test } = require('node:test');
const { setTimeout: sleep } = require('node:timers/promises');
const { gather, image, openRuntime, processes, shell } = require('./helpers');

const MIB = 1024 * 1024;

describe('a stream', () => {
  const { runtime } = openRuntime({ after });
  let box;
  before(async () => {
    box = await runtime.create(image);
    await box.run(shell(`head -c ${32 * MIB} /dev/urandom > /data`));
  });

  test('of 32 MiB reaches a slow reader complete, in bounded memory', async () => {
    const wanted = (await box.run(shell('sha256sum < /data'))).stdout.toString().slice(0, 64);
    const exec = await box.exec(['cat', '/data']);
    const hash = createHash('sha256');
    const held = () => {
      global.gc();
      return process.memoryUsage().arrayBuffers;
    };
    const before = held();
    let length = 0;
    let most = 0;
    let pause = 0;
    const slow = new Writable({
      write(chunk, encoding, callback) {
        hash.update(chunk);
        length += chunk.length;
        if (length < pause) return callback();
        pause += MIB;
        setTimeout(() => {
          most = Math.max(most, held() - before);
          callback();
        }, 30);
      },
    });
    await pipeline(exec.stdout, slow);
    assert.equal(length, 32 * MIB);
    assert.equal(hash.digest('hex'), wanted);
    assert.ok(most < 2 * MIB, `${most} bytes were held`);
    assert.equal((await exec.wait()).code, 0);
  });

  test('that nobody reads holds up its command, and no other', async () => {
    const unread = await box.exec(shell('cat /data; echo finished > /tmp/unread'));
    unread.stdout.once('readable', () => {}); // begun, and left
    const exec = await box.exec(['cat', '/data']);
    let length = 0;
    for await (const chunk of exec.stdout) length += chunk.length;
    assert.equal(length, 32 * MIB);
    assert.equal((await exec.wait()).code, 0);
    assert.equal((await box.run(shell('[ -e /tmp/unread ] || echo waiting'))).stdout.toString(), 'waiting\n');
    assert.ok(unread.stdout.readableLength < MIB);

    unread.stdout.resume();
    assert.equal((await unread.wait()).code, 0);
    assert.equal((await box.run(['cat', '/tmp/unread'])).stdout.toString(), 'finished\n');
  });

  test('of several MiB goes through cat and comes back', async () => {
    const data = randomBytes(5 * MIB + 1);
    const exec = await box.exec(['cat'], { stdin: true });
    const [back] = await Promise.all([
      gather(exec.stdout),
      pipeline(Readable.from([data.subarray(0, 3 * MIB), data.subarray(3 * MIB)]), exec.stdin),
    ]);
    assert.ok(back.equals(data));
    assert.equal((await exec.wait()).code, 0);
  });

  test('to a command that does not read waits, and fails when it ends', async () => {
    const exec = await box.exec(['sleep', '1000'], { stdin: true });
    const failed = once(exec.stdin, 'error');
    let taken = false;
    assert.equal(exec.stdin.write(Buffer.alloc(4 * MIB), () => (taken = true)), false);
    await sleep(300);
    assert.equal(taken, false);
    await exec.kill('SIGKILL');
    const [error] = await failed;
    assert.equal(error.code, 'BOXLITE_INVALID_STATE');
    assert.equal((await exec.wait()).signal, 'SIGKILL');
  });

  test('that is destroyed early lets its command go on', async () => {
    const exec = await box.exec(shell('cat /data; echo finished > /tmp/destroyed'));
    for await (const chunk of exec.stdout) {
      assert.ok(chunk.length > 0);
      break; // destroys the stream
    }
    assert.ok(exec.stdout.destroyed);
    assert.equal((await exec.wait()).code, 0);
    assert.equal((await box.run(['cat', '/tmp/destroyed'])).stdout.toString(), 'finished\n');
  });

  test('to stdin that is destroyed ends the input', async () => {
    const exec = await box.exec(['cat'], { stdin: true });
    exec.stdin.write('first');
    await sleep(50);
    exec.stdin.destroy();
    assert.equal((await gather(exec.stdout)).toString(), 'first');
    assert.equal((await exec.wait()).code, 0);
  });

  test('is aborted with its command', async () => {
    const controller = new AbortController();
    const exec = await box.exec(shell('while :; do echo on; done'), { signal: controller.signal });
    const waiting = assert.rejects(exec.wait(), { name: 'AbortError' });
    let chunks = 0;
    for await (const chunk of exec.stdout) {
      assert.match(chunk.toString(), /on/);
      if (++chunks === 10) controller.abort();
    }
    await waiting;
    assert.equal(await processes(box, 'sh'), 0);
  });

  test("has its box's error when the box dies, and no end", async () => {
    const doomed = await runtime.create(image);
    const exec = await doomed.exec(shell('while :; do echo on; sleep 0.01; done'));
    const silent = await doomed.exec(['sleep', '1000']);
    const waiting = assert.rejects(silent.wait(), { name: 'BoxliteError' });
    exec.stdout.on('end', () => assert.fail('an end'));
    exec.stdout.on('data', () => {});
    await once(exec.stdout, 'data');
    const failed = once(exec.stdout, 'error');
    process.kill((await doomed.inspect()).pid, 'SIGKILL');
    const [error] = await failed;
    assert.equal(error.name, 'BoxliteError');
    assert.match(error.code, /^BOXLITE_(STOPPED|ENGINE)$/);
    await assert.rejects(exec.wait(), { code: error.code });
    await waiting;
    await runtime.remove(doomed.id);
  });

  test('of a box that is removed by force comes to an end or to an error', async () => {
    const doomed = await runtime.create(image);
    const exec = await doomed.exec(shell('while :; do echo on; sleep 0.01; done'));
    const silent = await doomed.exec(['sleep', '1000']);
    exec.stdout.on('data', () => {});
    await once(exec.stdout, 'data');
    const outcomes = Promise.allSettled([exec.wait(), silent.wait(), finished(exec.stdout)]);
    await runtime.remove(doomed.id, { force: true });
    for (const { status, value, reason } of (await outcomes).slice(0, 2)) {
      // An agent that is told to stop may still tell that it ended the command.
      if (status === 'fulfilled') assert.match(value.signal, /^SIG(TERM|KILL)$/);
      else assert.match(reason.code, /^BOXLITE_(STOPPED|ENGINE)$/);
    }
  });
});
