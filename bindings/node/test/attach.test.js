'use strict';

const assert = require('node:assert/strict');
const { finished } = require('node:stream/promises');
const { after, describe, test } = require('node:test');
const { setTimeout: sleep } = require('node:timers/promises');
const { Runtime } = require('..');
const { eventually, gather, image, newHome, openRuntime, removeHome, runScript, shell } = require('./helpers');

const SPOOL = 4096;

// What `seq` writes.
function numbers(count) {
  let all = '';
  for (let n = 1; n <= count; n++) all += `${n}\n`;
  return Buffer.from(all);
}

// Follows a stream to its end, over gaps, and checks each byte against its place.
async function follow(stream, all, at, pause = 0) {
  let lost = 0;
  stream.on('gap', (bytes) => {
    assert.ok(bytes > 0);
    assert.equal(stream.readableLength, 0);
    at += bytes;
    lost += bytes;
    assert.equal(stream.offset, at);
    assert.equal(stream.lost, lost);
  });
  for await (const chunk of stream) {
    assert.ok(chunk.equals(all.subarray(at, at + chunk.length)), `other bytes at ${at}`);
    at += chunk.length;
    if (pause) await sleep(pause);
  }
  assert.equal(at, all.length);
  assert.equal(stream.offset, at);
  return lost;
}

describe('what is detached', () => {
  const { runtime } = openRuntime({ after });

  test('outlives its program, and is followed by another', async (t) => {
    const home = newHome();
    const runtime = new Runtime({ home });
    t.after(async () => {
      for (const { id } of await runtime.list()) await runtime.remove(id, { force: true });
      runtime.close();
      await removeHome(home);
    });
    const box = await runtime.create(image, { detach: true, spoolBytes: SPOOL });
    const script = 'seq 20000; echo done >&2; exec sleep 1000';
    const { code, stdout, stderr } = await runScript(t, `
      const runtime = new boxlite.Runtime({ home: ${JSON.stringify(home)} });
      const box = await runtime.get('${box.id}');
      const starting = new AbortController();
      const exec = await box.exec(['sh', '-c', '${script}'], { detach: true, signal: starting.signal });
      starting.abort();
      await box.exec(['sleep', '1000']);
      console.log(exec.id);
      await runtime.shutdown();
      process.exit();
    `);
    assert.equal(code, 0, stderr);
    const id = Number(stdout);
    assert.ok(id > 0);

    const info = await box.inspect();
    assert.deepEqual([info.status, info.detach], ['running', true]);
    const all = numbers(20000);
    const held = all.length - SPOOL;
    let listed;
    // The command that was not detached is gone with its program.
    await eventually(async () => {
      listed = await box.listExecs();
      return listed.length === 1 && listed[0].stdoutTotal === all.length && listed[0].stderrTotal === 5;
    }, 'one command has written');
    const [{ startedAt, ...rest }] = listed;
    assert.ok(Math.abs(Date.now() - startedAt) < 600_000);
    assert.deepEqual(rest, {
      id,
      argv: ['sh', '-c', script],
      main: false,
      detached: true,
      running: true,
      code: null,
      signal: null,
      stdoutFirst: held,
      stdoutTotal: all.length,
      stderrFirst: 0,
      stderrTotal: 5,
    });

    for (const from of [0, 5, held, held + 7]) {
      const exec = await box.attach(id, { stdoutFrom: from, stderrFrom: 2 });
      assert.deepEqual([exec.id, exec.stdout.offset, exec.stderr.offset], [id, from, 2]);
      const gaps = [];
      exec.stdout.on('gap', (bytes) => gaps.push(bytes));
      let at = Math.max(from, held);
      for await (const chunk of exec.stdout) {
        assert.ok(chunk.equals(all.subarray(at, at + chunk.length)));
        at += chunk.length;
        if (at === all.length) break;
      }
      assert.deepEqual(gaps, from < held ? [held - from] : []);
      assert.equal(exec.stdout.lost, Math.max(held - from, 0));
    }
    await assert.rejects(box.attach(id, { stdoutFrom: all.length + 1 }), { code: 'BOXLITE_INVALID_ARGUMENT' });
    await assert.rejects(box.attach(id + 100), { code: 'BOXLITE_NOT_FOUND' });
    await assert.rejects(box.attach('x'), { code: 'BOXLITE_INVALID_ARGUMENT', object: 'id' });

    const exec = await box.attach(id);
    await exec.kill('SIGKILL');
    assert.equal(await follow(exec.stdout, all, 0), held);
    assert.equal((await gather(exec.stderr)).toString(), 'done\n');
    assert.equal((await exec.wait()).signal, 'SIGKILL');
    const [ended] = await box.listExecs();
    assert.deepEqual([ended.running, ended.code, ended.signal], [false, 137, 'SIGKILL']);
  });

  test('does not wait for a reader, who finds gaps in their places', async () => {
    const box = await runtime.create(image, { spoolBytes: SPOOL });
    const all = numbers(300_000);
    const exec = await box.exec(shell('seq 300000; exit 3'), { detach: true });
    exec.stdout.once('readable', () => {}); // begun, and left
    await eventually(async () => !(await box.listExecs())[0].running, 'it has ended');
    assert.ok((await follow(exec.stdout, all, 0, 1)) > 0);
    assert.equal((await exec.wait()).code, 3);
    await box.stop({ graceMs: 0 });
  });

  test('tells of a gap also who wants more than there is before it', async () => {
    const box = await runtime.create(image, { spoolBytes: SPOOL });
    const all = numbers(300_000);
    const exec = await box.exec(shell('seq 300000'), { detach: true });
    let got = 0;
    let gaps = 0;
    exec.stdout.on('gap', (bytes) => {
      got += bytes;
      gaps++;
    });
    exec.stdout.once('readable', async () => {
      await eventually(async () => !(await box.listExecs())[0].running, 'it has ended');
      const take = () => {
        for (let chunk; (chunk = exec.stdout.read(1000)) !== null; ) got += chunk.length;
      };
      exec.stdout.on('readable', take);
      take();
    });
    await finished(exec.stdout);
    assert.equal(got, all.length);
    assert.ok(gaps > 0);
    await box.stop({ graceMs: 0 });
  });

  test('is a command that asked for it, and no other', async () => {
    const box = await runtime.create(image);
    const exec = await box.exec(['sleep', '1000']);
    const [listed, ...more] = await box.listExecs();
    assert.equal(more.length, 0);
    assert.deepEqual([listed.id, listed.detached, listed.stdoutTotal], [exec.id, false, 0]);
    await assert.rejects(box.attach(exec.id), { code: 'BOXLITE_INVALID_STATE' });
    await box.stop({ graceMs: 0 });
  });
});
