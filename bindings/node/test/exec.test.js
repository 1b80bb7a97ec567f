'use strict';

const assert = require('node:assert/strict');
const { after, before, describe, test } = require('node:test');
const { gather, image, openRuntime, processes, shell } = require('./helpers');

describe('a command', () => {
  const { runtime } = openRuntime({ after });
  let box;
  before(async () => {
    box = await runtime.create(image);
    await box.start();
  });

  test('prints bytes that come back as they were written', async () => {
    const script =
      'i=0; while [ $i -lt 512 ]; do printf "\\\\$(printf %03o $((i % 256)))"; i=$((i + 1)); done';
    const exec = await box.exec(shell(script));
    assert.deepEqual(await gather(exec.stdout), Buffer.from(Array.from({ length: 512 }, (_, i) => i % 256)));
    assert.equal((await exec.wait()).code, 0);
  });

  test('keeps its outputs apart, and says how it ended', async () => {
    const exec = await box.exec(shell('echo a; echo b >&2; echo c; exit 42'));
    assert.equal(exec.stdin, null);
    const [status, out, err] = await Promise.all([exec.wait(), gather(exec.stdout), gather(exec.stderr)]);
    assert.deepEqual(status, { code: 42, signal: null, message: null });
    assert.equal(out.toString(), 'a\nc\n');
    assert.equal(err.toString(), 'b\n');
    assert.strictEqual(await exec.wait(), status);
  });

  test('can be waited for unread, and read afterwards', async () => {
    const exec = await box.exec(shell('echo kept; exit 3'));
    assert.equal((await exec.wait()).code, 3);
    assert.equal((await gather(exec.stdout)).toString(), 'kept\n');
  });

  test('that cannot be run says why', async () => {
    for (const [command, code, message] of [
      ['no-such-command', 127, /no-such-command: command not found/],
      ['/etc/passwd', 126, /cannot be executed/],
    ]) {
      const status = await (await box.exec([command])).wait();
      assert.equal(status.code, code);
      assert.equal(status.signal, null);
      assert.match(status.message, message);
    }
  });

  test('is killed with its whole group', async () => {
    const exec = await box.exec(shell('sleep 1000 & sleep 1000'));
    await assert.rejects(exec.kill(12345), { code: 'BOXLITE_INVALID_ARGUMENT' });
    await exec.kill('SIGKILL');
    assert.deepEqual(await exec.wait(), { code: 137, signal: 'SIGKILL', message: null });
    assert.equal(await processes(box, 'sleep'), 0);
    await assert.rejects(exec.kill(), { code: 'BOXLITE_NOT_FOUND' });
    await assert.rejects(exec.kill('SIGNONE'), { code: 'ERR_UNKNOWN_SIGNAL' });
  });

  test('is terminated by default', async () => {
    const exec = await box.exec(['sleep', '1000']);
    await exec.kill();
    assert.deepEqual(await exec.wait(), { code: 143, signal: 'SIGTERM', message: null });
  });

  test('ends when its signal is aborted', async () => {
    const controller = new AbortController();
    const exec = await box.exec(['sleep', '1000'], { signal: controller.signal });
    assert.equal(await processes(box, 'sleep'), 1);
    const reason = new Error('enough');
    controller.abort(reason);
    await assert.rejects(exec.wait(), (error) => error.name === 'AbortError' && error.cause === reason);
    assert.equal(await processes(box, 'sleep'), 0);

    await assert.rejects(box.exec(['sleep', '1000'], { signal: controller.signal }), { name: 'AbortError' });
    assert.equal(await processes(box, 'sleep'), 0);
  });

  test('is not touched by a signal that is aborted afterwards', async () => {
    const controller = new AbortController();
    const exec = await box.exec(['true'], { signal: controller.signal });
    assert.equal((await exec.wait()).code, 0);
    controller.abort();
    assert.equal((await exec.wait()).code, 0);
  });

  test('runs beside nineteen others', async () => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, async (_, i) => {
        const exec = await box.exec(shell(`echo ${i}; cat >&2; exit ${i}`), { stdin: true });
        exec.stdin.end(`in ${i}`);
        const [{ code }, out, err] = await Promise.all([exec.wait(), gather(exec.stdout), gather(exec.stderr)]);
        return `${code} ${out}${err}`;
      }),
    );
    assert.deepEqual(answers, Array.from({ length: 20 }, (_, i) => `${i} ${i}\nin ${i}`));
  });
});
