'use strict';

const assert = require('node:assert/strict');
const { before, describe, test, after } = require('node:test');
const { setTimeout: sleep } = require('node:timers/promises');
const { BoxliteError, Runtime, version } = require('..');
const { eventually, image, machines, newHome, openRuntime, processes, removeHome, shell } = require('./helpers');

test('the library tells its version', () => {
  assert.match(version, /^\d+\.\d+\.\d+$/);
});

describe('a box', () => {
  const { runtime, home } = openRuntime({ after });
  let box;
  before(async () => {
    box = await runtime.create(image, { name: 'first', memoryMib: 256, env: { A: 'box', B: 'box' } });
  });

  test('is made, found, listed and described', async () => {
    assert.equal(box.name, 'first');
    assert.equal((await runtime.get('first')).id, box.id);
    const [info, ...more] = await runtime.list();
    assert.equal(more.length, 0);
    assert.deepEqual(info, await box.inspect());
    assert.equal(info.id, box.id);
    assert.equal(info.image, image);
    assert.equal(info.memoryMib, 256);
    assert.equal(info.diskSizeMib, 10240);
    assert.equal(info.status, 'configured');
    assert.ok(Math.abs(Date.now() - info.createdAt) < 600_000);
    assert.equal(info.pid, null);
    assert.equal(info.boot, null);
  });

  test('starts, stops, keeps its disk, and starts again', async () => {
    await box.start();
    const info = await box.inspect();
    assert.equal(info.status, 'running');
    assert.match(info.accelerator, /^(kvm|tcg)$/);
    assert.ok(info.pid > 0);
    assert.ok(info.stages.some(({ name, microseconds }) => name === 'restore' && microseconds > 0));
    await box.run(shell('echo kept > /file'));
    await box.stop({ graceMs: 100 });
    assert.equal((await box.inspect()).status, 'stopped');
    assert.equal(machines(home).length, 0);
    assert.equal((await box.run(['cat', '/file'])).stdout.toString(), 'kept\n');
  });

  test('runs a command and gathers up to a limit', async () => {
    const script = 'head -c 100000 /dev/zero; echo err >&2; exit 42';
    const output = await box.run(shell(script), { limit: 1000 });
    assert.equal(output.code, 42);
    assert.equal(output.signal, null);
    assert.equal(output.message, null);
    assert.deepEqual(output.stdout, Buffer.alloc(1000));
    assert.equal(output.stdoutDropped, 99_000);
    assert.equal(output.stderr.toString(), 'err\n');
    assert.equal(output.stderrDropped, 0);
  });

  test('runs a command as who and where it is asked to', async () => {
    const options = { env: { B: 'exec', C: undefined }, workingDir: '/tmp', user: 'app' };
    const { stdout } = await box.run(shell('id -u; pwd; echo $A $B $C'), options);
    assert.equal(stdout.toString(), '1000\n/tmp\nbox exec\n');
  });

  test('ends a run that is aborted', async () => {
    const signal = AbortSignal.timeout(300);
    await assert.rejects(box.run(['sleep', '1000'], { signal }), { name: 'AbortError', code: 'ABORT_ERR' });
    assert.equal(await processes(box, 'sleep'), 0);
  });

  test('says what is wrong', async () => {
    const notFound = (error) => {
      assert.ok(error instanceof BoxliteError && error instanceof Error);
      assert.equal(error.name, 'BoxliteError');
      assert.equal(error.code, 'BOXLITE_NOT_FOUND');
      assert.equal(error.status, 2);
      assert.equal(error.retryable, false);
      assert.match(error.message, /nobody/);
      return true;
    };
    await assert.rejects(runtime.get('nobody'), notFound);
    await assert.rejects(runtime.remove('nobody'), notFound);
    await assert.rejects(runtime.create(image, { name: 'first' }), { code: 'BOXLITE_ALREADY_EXISTS' });
    await assert.rejects(runtime.create('/no/such/image'), { code: 'BOXLITE_IMAGE' });
    await assert.rejects(runtime.remove(box.id), { code: 'BOXLITE_INVALID_STATE', status: 4 });
    await assert.rejects(box.run(['true'], { workingDir: '/no/such/dir' }), {
      code: 'BOXLITE_INVALID_ARGUMENT',
    });
    assert.throws(() => new Runtime({ home: '/proc/version/home' }), (error) => {
      assert.ok(error instanceof BoxliteError);
      assert.equal(error.code, 'BOXLITE_STORAGE');
      assert.equal(typeof error.errno, 'number');
      return true;
    });
  });

  test('refuses what it does not understand', async () => {
    const refused = (object) => ({ code: 'BOXLITE_INVALID_ARGUMENT', object });
    await assert.rejects(runtime.create(image, { memory: 512 }), refused('memory'));
    await assert.rejects(runtime.create(image, { cpus: '2' }), refused('cpus'));
    await assert.rejects(runtime.create(image, { cpus: 1.5 }), refused('cpus'));
    await assert.rejects(runtime.create(image, { cpus: 2 ** 32 + 1 }), refused('cpus'));
    await assert.rejects(runtime.create(image, { cpus: 65 }), refused('cpus'));
    await assert.rejects(runtime.create(image, { name: 'a\0b' }), refused('name'));
    await assert.rejects(runtime.create(image, { env: { A: 1 } }), refused('env.A'));
    await assert.rejects(runtime.create(image, { env: ['A=1'] }), refused('env'));
    await assert.rejects(runtime.create(42), refused('image'));
    await assert.rejects(runtime.create(image, null), TypeError);
    await assert.rejects(box.exec('ls'), refused('argv'));
    await assert.rejects(box.exec(['ls', 1]), refused('argv[1]'));
    await assert.rejects(box.exec(['ls'], { stdin: 1 }), refused('stdin'));
    await assert.rejects(box.stop({ graceMs: -1 }), refused('graceMs'));
    await assert.rejects(runtime.create(image, { coldBoot: 1 }), refused('coldBoot'));
    const opening = (options) => () => new Runtime({ home, ...options });
    assert.throws(opening({ accelerator: 'fast' }), refused('accelerator'));
    assert.throws(opening({ templateAgeS: 0 }), refused('template_age_s'));
    assert.throws(opening({ templateAgeS: 0.5 }), refused('templateAgeS'));
    assert.throws(opening({ templatesMib: -1 }), refused('templatesMib'));
    assert.throws(opening({ diskTemplates: 'no' }), refused('diskTemplates'));
    assert.throws(opening({ pool: 2 }), refused('pool'));
    assert.throws(opening({ pool: { size: 2 } }), refused('pool.size'));
    assert.throws(opening({ pool: { machines: 65 } }), refused('machines'));
    assert.throws(opening({ pool: { cpus: 0 } }), refused('cpus'));
    assert.throws(opening({ pool: { cpus: '1' } }), refused('pool.cpus'));
    assert.throws(opening({ pool: { memoryMib: 1 } }), refused('memory_mib'));
    assert.throws(opening({ pool: { diskSizeMib: 64 } }), refused('image'));
    assert.throws(opening({ pool: { image, diskSizeMib: 1 } }), refused('disk_size_mib'));
  });

  test('is removed', async () => {
    await runtime.remove('first', { force: true });
    assert.deepEqual(await runtime.list(), []);
    box.close();
    box.close();
    await assert.rejects(box.start(), { code: 'BOXLITE_INVALID_STATE' });
  });
});

// Starts a new box, and tells how it came up.
async function comesUp(runtime, options) {
  const box = await runtime.create(image, options);
  await box.start();
  const { boot } = await box.inspect();
  await runtime.remove(box.id, { force: true });
  return boot;
}

const nothing = {
  coldStarts: 0,
  restoredStarts: 0,
  pooledStarts: 0,
  templatesMade: 0,
  diskTemplatesMade: 0,
  detours: 0,
  boxesCreated: 0,
  boxesFailed: 0,
  boxesStopped: 0,
  commandsExecuted: 0,
  execErrors: 0,
};

test('a box is booted or restored, and counted', async (t) => {
  const options = { templateAgeS: 5400, templatesMib: 1024, diskTemplates: false };
  const { runtime } = openRuntime(t, options);
  assert.deepEqual(runtime.counters(), nothing);
  assert.equal(await comesUp(runtime, { coldBoot: true }), 'cold');
  assert.equal(await comesUp(runtime), 'restored');
  const two = { boxesCreated: 2, boxesStopped: 2 };
  assert.deepEqual(runtime.counters(), { ...nothing, ...two, coldStarts: 1, restoredStarts: 1, templatesMade: 1 });
  assert.equal(runtime.poolReady(), 0);
});

test('a box gets a machine that waits, of its image', async (t) => {
  const pool = { machines: 1, memoryMib: 256, image, diskSizeMib: 64 };
  const { runtime } = openRuntime(t, { pool });
  await eventually(() => runtime.poolReady() === 1, 'a machine waits');
  const made = { ...nothing, templatesMade: 1, diskTemplatesMade: 1 };
  assert.deepEqual(runtime.counters(), made);
  assert.equal(await comesUp(runtime, { memoryMib: 256, diskSizeMib: 64 }), 'pooled');
  assert.deepEqual(runtime.counters(), { ...made, pooledStarts: 1, boxesCreated: 1, boxesStopped: 1 });
  await runtime.shutdown({ graceMs: 0 });
  assert.equal(runtime.poolReady(), 0);
});

test('a start that is aborted is undone, and can be made again', async (t) => {
  const { runtime, home } = openRuntime(t);
  const box = await runtime.create(image);
  const reason = new Error('changed my mind');
  const controller = new AbortController();
  const starting = box.start({ signal: controller.signal });
  await sleep(150);
  controller.abort(reason);
  await assert.rejects(starting, (error) => error.name === 'AbortError' && error.cause === reason);
  assert.notEqual((await box.inspect()).status, 'running');
  await eventually(() => machines(home).length === 0, 'the machine is gone');

  await assert.rejects(box.start({ signal: controller.signal }), { name: 'AbortError' });
  assert.equal(machines(home).length, 0);

  const late = new AbortController();
  await box.start({ signal: late.signal });
  late.abort();
  assert.equal((await box.run(['echo', 'up'])).stdout.toString(), 'up\n');
});

test('a runtime that was closed refuses', async () => {
  const home = newHome();
  const runtime = new Runtime({ home });
  const listing = runtime.list();
  runtime.close();
  runtime.close();
  assert.deepEqual(await listing, []);
  await assert.rejects(runtime.list(), { code: 'BOXLITE_INVALID_STATE', name: 'BoxliteError' });
  assert.throws(() => runtime.poolReady(), { code: 'BOXLITE_INVALID_STATE' });
  assert.throws(() => runtime.counters(), { code: 'BOXLITE_INVALID_STATE' });
  await removeHome(home);
});
