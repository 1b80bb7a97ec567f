// What happens to boxes is told: in order, each once, to everybody who reads.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { after, describe, test } = require('node:test');
const { Runtime } = require('..');
const { binding, eventually, image, newHome, openRuntime, removeHome, runScript, shell } = require('./helpers');

// Reads up to one that is wanted, or to the end. The limit only guards against hanging.
async function read(events, wanted) {
  const limit = setTimeout(() => events.destroy(new Error('there is neither an event nor an end')), 60_000);
  try {
    const seen = [];
    for await (const event of events.iterator({ destroyOnReturn: false })) {
      seen.push(event);
      if (wanted(event)) break;
    }
    return seen;
  } finally {
    clearTimeout(limit);
  }
}

async function readUntil(events, wanted) {
  const seen = await read(events, wanted);
  assert.ok(seen.length > 0 && wanted(seen.at(-1)), `the end after ${seen.map(({ kind }) => kind)}`);
  return seen;
}

// Reads as many events as there are kinds, which they have to be of.
async function expect(events, ...kinds) {
  let left = kinds.length;
  const seen = await read(events, () => --left === 0);
  assert.deepEqual(seen.map(({ kind }) => kind), kinds);
  return seen;
}

function killMachines(home) {
  const ours = fs.readdirSync('/proc').filter((pid) => {
    try {
      const [program] = fs.readFileSync(`/proc/${pid}/comm`, 'utf8').split('\n');
      return program.startsWith('qemu') && fs.readFileSync(`/proc/${pid}/cmdline`).includes(home);
    } catch {
      return false; // it is no process, or has ended just now
    }
  });
  ours.forEach((pid) => process.kill(Number(pid), 'SIGKILL'));
  return ours.length;
}

describe('events', () => {
  const { runtime, home } = openRuntime({ after });

  test('tell the life of a box, to each reader', async () => {
    const both = [runtime.events(), runtime.events({ capacity: 65536 })];
    const began = Date.now();
    const box = await runtime.create(image, { name: 'life' });
    await box.start();
    const exec = await box.exec(shell('exit 3'));
    await exec.wait();
    await box.run(shell('kill -9 $$'));
    await box.run(['/no/such/program', 'secret']);
    await box.pause();
    await box.resume();
    await box.stop({ graceMs: 0 });
    await runtime.remove('life');

    for (const events of both) {
      const all = await expect(
        events, 'boxCreated', 'boxStarted', 'execStarted', 'execEnded', 'execStarted', 'execEnded',
        'execStarted', 'execEnded', 'boxPaused', 'boxResumed', 'boxStopped', 'boxRemoved',
      );
      const [created, , first, third, , killed, , missing] = all;
      const nothing = { text: null, execId: null, code: null, signal: null, lost: 0 };
      const { time, microseconds } = created;
      const common = { boxId: box.id, boxName: 'life', time, microseconds };
      assert.deepEqual(created, { kind: 'boxCreated', ...common, ...nothing });
      assert.deepEqual([first.text, first.execId, first.code], ['sh', exec.id, null]);
      assert.deepEqual([third.text, third.execId, third.code, third.signal], [null, exec.id, 3, null]);
      assert.deepEqual([killed.code, killed.signal], [137, 'SIGKILL']);
      assert.deepEqual([missing.execId, missing.code], [null, 127]);
      assert.match(missing.text, /\/no\/such\/program/);
      assert.doesNotMatch(missing.text, /secret/);
      assert.ok(all.every((event) => event.boxId === box.id && event.boxName === 'life'));
      all.reduce((before, event) => {
        assert.ok(event.microseconds >= before.microseconds);
        assert.equal(event.time.getTime(), Math.floor(event.microseconds / 1000));
        return event;
      });
      assert.ok(time >= began - 1000 && all.at(-1).time <= Date.now() + 1000);
      events.destroy();
    }
  });

  test('tell of a box that fails', async () => {
    const box = await runtime.create(image);
    const events = runtime.events();
    const exec = await box.exec(['sleep', '1000']);
    assert.equal(killMachines(home), 1);
    const [, , ended, failed] = await expect(events, 'boxStarted', 'execStarted', 'execEnded', 'boxFailed');
    assert.deepEqual([ended.execId, ended.code, ended.signal], [exec.id, null, null]);
    assert.ok(ended.text);
    assert.deepEqual([failed.boxId, failed.boxName], [box.id, null]);
    assert.match(failed.text, /signal 9/);
    events.destroy();
    await runtime.remove(box.id);
  });

  test('tell what health checks say, and of a main process', async () => {
    const box = await runtime.create(image, {
      healthCheck: { argv: ['test', '-e', '/tmp/well'], intervalMs: 100, retries: 2 },
      main: shell('while [ ! -e /tmp/end ]; do sleep 0.1; done; exit 4'),
    });
    const events = runtime.events();
    await box.start();
    const [, { execId }, ill] = await expect(events, 'boxStarted', 'execStarted', 'unhealthy');
    assert.equal(ill.boxId, box.id);
    assert.match(ill.text, /2 health checks/);
    await box.run(['touch', '/tmp/well']);
    // The command's own end may come before or after what it leads to.
    const better = await readUntil(events, ({ kind }) => kind === 'healthy');
    assert.ok(better.every(({ kind }) => kind !== 'unhealthy'));
    await box.run(['touch', '/tmp/end']);
    const last = await readUntil(events, ({ kind }) => kind === 'boxStopped');
    assert.equal(last.find((event) => event.kind === 'execEnded' && event.execId === execId).code, 4);
    assert.match(last.at(-1).text, /main process/);
    events.destroy();
  });

  test('are counted where nobody has read them in time', async () => {
    const box = await runtime.create(image);
    await box.start();
    const events = runtime.events({ capacity: 1 });
    const all = runtime.events();
    for (let i = 0; i < 10; i++) await box.run(['true']);
    const pairs = Array.from({ length: 20 }, (_, i) => (i % 2 ? 'execEnded' : 'execStarted'));
    await expect(all, ...pairs);
    const [first, overflow] = await expect(events, 'execStarted', 'overflow');
    assert.equal(first.lost, 0);
    assert.deepEqual([overflow.boxId, overflow.boxName, overflow.text], [null, null, null]);
    assert.equal(overflow.lost, 19);
    // There is room again.
    await runtime.remove(box.id, { force: true });
    await expect(all, 'boxStopped', 'boxRemoved');
    const [next] = await expect(events, 'boxStopped');
    assert.equal(next.boxId, box.id);
    events.destroy();
    all.destroy();
  });

  test('end with the loop that reads them', async () => {
    const events = runtime.events();
    const other = runtime.events();
    const box = await runtime.create(image);
    for await (const { kind, boxId } of events) {
      assert.deepEqual([kind, boxId], ['boxCreated', box.id]);
      break;
    }
    assert.ok(events.destroyed);
    const kinds = [];
    other.on('data', ({ kind }) => {
      kinds.push(kind);
      if (kind === 'boxRemoved') other.destroy();
    });
    await runtime.remove(box.id);
    await eventually(() => other.destroyed, 'the listener has closed it');
    await runtime.remove((await runtime.create(image)).id);
    assert.deepEqual(kinds, ['boxCreated', 'boxRemoved']);
  });

  test('can be aborted', async () => {
    const reason = new Error('enough');
    const controller = new AbortController();
    const events = runtime.events({ signal: controller.signal });
    const reading = events[Symbol.asyncIterator]().next();
    controller.abort(reason);
    await assert.rejects(reading, { name: 'AbortError', code: 'ABORT_ERR', cause: reason });
    assert.ok(events.destroyed);
  });

  test('refuse what they do not understand', () => {
    const refused = (object) => ({ code: 'BOXLITE_INVALID_ARGUMENT', object });
    for (const capacity of [0, 65537, -1, 1.5, '1', null])
      assert.throws(() => runtime.events({ capacity }), refused('capacity'));
    assert.throws(() => runtime.events({ kinds: [] }), refused('kinds'));
  });
});

test('events end with their runtime, after those that wait', async () => {
  const home = newHome();
  const runtime = new Runtime({ home });
  const [unread, first, second] = [runtime.events(), runtime.events(), runtime.events()];
  const box = await runtime.create(image);
  await runtime.remove(box.id);
  const readKinds = async (events) => (await read(events, () => false)).map(({ kind }) => kind);
  // Both wait when the end comes, one of them also closes.
  await expect(first, 'boxCreated', 'boxRemoved');
  await expect(second, 'boxCreated', 'boxRemoved');
  const reading = [readKinds(first), readKinds(second)];
  for (const events of [first, second]) events.on('readable', () => runtime.close());
  runtime.close();
  assert.deepEqual(await Promise.all(reading), [[], []]);
  assert.deepEqual(await readKinds(unread), ['boxCreated', 'boxRemoved']);
  assert.throws(() => runtime.events(), { code: 'BOXLITE_INVALID_STATE' });
  await removeHome(home);
});

test('who waits for events keeps the process alive, unless it was told not to', async (t) => {
  const script = (how) => `
    const runtime = new boxlite.Runtime({ home });
    const events = runtime.events();
    ${how}
    process.on('exit', () => console.log('exit'));
    (async () => {
      for await (const { kind } of events) console.log(kind);
      console.log('end');
    })();
    await runtime.create(image);
    setTimeout(() => runtime.close(), 500).unref();`;
  const kept = await runScript(t, script(''));
  assert.deepEqual(kept, { code: 0, stdout: 'boxCreated\nend\nexit\n', stderr: '' });
  const left = await runScript(t, script('events.unref();'));
  assert.deepEqual(left, { code: 0, stdout: 'boxCreated\nexit\n', stderr: '' });
  const unread = await runScript(t, `globalThis.kept = new boxlite.Runtime({ home }).events();`);
  assert.deepEqual(unread, { code: 0, stdout: '', stderr: '' });
});

test('what a listener of events throws is an uncaught exception, and they go on', async (t) => {
  const { code, stdout, stderr } = await runScript(
    t,
    `let thrown = 0;
     process.on('uncaughtException', (error) => console.log('uncaught', error.message, ++thrown));
     const runtime = new boxlite.Runtime({ home });
     const events = runtime.events();
     events.on('data', ({ kind }) => { throw new Error(kind); });
     events.on('end', () => console.log('end'));
     const box = await runtime.create(image);
     await runtime.remove(box.id);
     while (thrown < 2) await sleep(10);
     runtime.close();`,
  );
  assert.equal(stderr, '');
  assert.equal(stdout, 'uncaught boxCreated 1\nuncaught boxRemoved 2\nend\n');
  assert.equal(code, 0);
});

test('events that were dropped are freed with the garbage', async (t) => {
  const { code, stdout, stderr } = await runScript(
    t,
    `async function use() {
       const runtime = new boxlite.Runtime({ home });
       const events = runtime.events();
       runtime.events();
       await (await runtime.create(image)).start();
       for await (const { kind } of events) if (kind === 'boxStarted') break;
       console.log(machines(home).length > 0);
     }
     await use();
     for (let i = 0; i < 500 && machines(home).length > 0; i++) {
       global.gc();
       await sleep(20);
     }
     console.log(machines(home).length);`,
    ['--expose-gc'],
  );
  assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: 'true\n0\n', stderr: '' });
});

test('a worker may be terminated while it waits for events', async (t) => {
  const { code, stdout, stderr } = await runScript(
    t,
    `const { Worker } = require('node:worker_threads');
     const { once } = require('node:events');
     const script = \`
       const { parentPort, workerData: { binding, home, image } } = require('node:worker_threads');
       (async () => {
         const runtime = new (require(binding).Runtime)({ home });
         const unread = runtime.events({ capacity: 1 });
         const box = await runtime.create(image);
         const make = async () => { for (;;) await runtime.remove((await runtime.create(image)).id); };
         make();
         for await (const event of runtime.events()) parentPort.postMessage(event.kind);
       })();
     \`;
     for (let i = 0; i < 10; i++) {
       const workerData = { binding: ${JSON.stringify(binding)}, home, image };
       const worker = new Worker(script, { eval: true, workerData });
       await once(worker, 'message');
       await sleep(Math.random() * 30);
       await worker.terminate();
     }
     console.log('done');`,
  );
  assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: 'done\n', stderr: '' });
});

test('every kind of event in the header is declared', () => {
  const header = fs.readFileSync(path.resolve(binding, '../../include/boxlite.h'), 'utf8');
  const declared = fs.readFileSync(path.join(binding, 'lib/index.d.ts'), 'utf8');
  const kinds = [...header.matchAll(/^ +BOXLITE_EVENT_(\w+) = \d+,$/gm)].map(([, name]) =>
    name.toLowerCase().replace(/_(\w)/g, (_, letter) => letter.toUpperCase()),
  );
  assert.ok(kinds.length >= 14);
  const [, union] = declared.match(/^export type EventKind =\n(.*?);$/ms);
  for (const kind of kinds) assert.ok(union.includes(`| '${kind}'`), kind);
});
