'use strict';

const assert = require('node:assert/strict');
const { after, describe, test } = require('node:test');
const { eventually, gather, image, openRuntime, shell } = require('./helpers');

describe('the life of a box', () => {
  const { runtime } = openRuntime({ after });

  // Waits until a box is as wanted.
  async function becomes(box, wanted) {
    let info;
    await eventually(async () => wanted((info = await box.inspect())), String(wanted));
    return info;
  }

  test('has pauses', async () => {
    const box = await runtime.create(image);
    await assert.rejects(box.pause(), { code: 'BOXLITE_INVALID_STATE' });
    const exec = await box.exec(['cat'], { stdin: true });
    await box.pause();
    await box.pause();
    assert.equal((await box.inspect()).status, 'paused');
    await assert.rejects(box.run(['true']), { code: 'BOXLITE_INVALID_STATE' });
    exec.stdin.end('later\n');
    await box.resume();
    await box.resume();
    assert.equal((await gather(exec.stdout)).toString(), 'later\n');
    assert.equal((await box.inspect()).status, 'running');
  });

  test('ends with its removal, if that was asked for', async () => {
    const box = await runtime.create(image, { autoRemove: true });
    const kept = await runtime.create(image);
    await box.start();
    assert.equal((await box.inspect()).autoRemove, true);
    assert.equal((await kept.inspect()).autoRemove, false);
    await box.stop({ graceMs: 0 });
    await eventually(async () => (await runtime.list()).every(({ id }) => id !== box.id), 'it is gone');
    assert.equal((await kept.inspect()).status, 'configured');
  });

  test('ends when it is idle', async () => {
    const box = await runtime.create(image, { idleStopS: 1 });
    await box.start();
    const { error } = await becomes(box, ({ status }) => status === 'stopped');
    assert.match(error, /1 s/);
  });

  test('is checked', async () => {
    const box = await runtime.create(image, {
      healthCheck: { argv: ['test', '-e', '/tmp/well'], intervalMs: 100, timeoutMs: 10_000, retries: 2 },
    });
    const before = await box.inspect();
    assert.deepEqual([before.health, before.healthFailures, before.lastCheck], [null, 0, null]);
    await box.start();
    const { healthFailures, lastCheck } = await becomes(box, ({ health }) => health === 'unhealthy');
    assert.ok(healthFailures >= 2);
    assert.ok(Math.abs(Date.now() - lastCheck) < 600_000);
    await box.run(['touch', '/tmp/well']);
    await becomes(box, (info) => info.health === 'healthy' && info.healthFailures === 0);
  });

  test('ends with its main process, whose output is kept', async () => {
    const box = await runtime.create(image, { main: shell('echo out; echo err >&2; exit 3') });
    assert.equal((await box.inspect()).main, null);
    await assert.rejects(box.attachMain(), { code: 'BOXLITE_NOT_FOUND' });
    await box.start();
    const { main } = await becomes(box, ({ status }) => status === 'stopped');
    assert.deepEqual(main, { status: 'exited', code: 3, signal: null });
    const exec = await box.attachMain({ stdoutFrom: 1 });
    assert.equal(exec.stdin, null);
    assert.equal((await gather(exec.stdout)).toString(), 'ut\n');
    assert.equal((await gather(exec.stderr)).toString(), 'err\n');
    assert.equal((await exec.wait()).code, 3);
  });

  test('does not begin without its main process', async () => {
    const box = await runtime.create(image, { main: ['no-such-command'] });
    await assert.rejects(box.start(), { code: 'BOXLITE_EXECUTION' });
  });

  test('goes on after its main process, if that was asked for', async () => {
    const box = await runtime.create(image, {
      entrypoint: [],
      cmd: shell('kill -TERM $$'),
      main: [],
      mainExit: 'stay',
    });
    await box.start();
    const { main, status } = await becomes(box, (info) => info.main?.status === 'exited');
    assert.deepEqual([main.code, main.signal, status], [143, 'SIGTERM', 'running']);
    const other = await runtime.create(image);
    await assert.rejects(other.attachMain(), { code: 'BOXLITE_INVALID_STATE' });
  });

  test('is refused if it is not understood', async () => {
    const refused = (object) => ({ code: 'BOXLITE_INVALID_ARGUMENT', object });
    const make = (options) => runtime.create(image, options);
    await assert.rejects(make({ healthCheck: {} }), refused('healthCheck.argv'));
    await assert.rejects(make({ healthCheck: { argv: [] } }), refused('argv'));
    await assert.rejects(make({ healthCheck: { argv: ['true'], interval: 1 } }), refused('healthCheck.interval'));
    await assert.rejects(make({ healthCheck: { argv: ['true'], retries: 1001 } }), refused('retries'));
    await assert.rejects(make({ main: 'true' }), refused('main'));
    await assert.rejects(make({ mainExit: 'restart' }), refused('mainExit'));
    await assert.rejects(make({ idleStopS: 0 }), { code: 'BOXLITE_INVALID_ARGUMENT' });
    await assert.rejects(make({ spoolBytes: 1 }), refused('spool_bytes'));
    await assert.rejects(make({ detach: 1 }), refused('detach'));
  });
});
