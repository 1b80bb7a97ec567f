// What boxes and runtimes have done, and what they take.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { after, before, describe, test } = require('node:test');
const { binding, gather, image, openRuntime, shell } = require('./helpers');

const MIB = 1024 * 1024;

describe('metrics', () => {
  const { runtime } = openRuntime({ after });
  let box;
  before(async () => {
    box = await runtime.create(image, { name: 'metered', memoryMib: 256, diskSizeMib: 512 });
  });

  test('of a box are there while it runs', async () => {
    await assert.rejects(box.metrics(), { code: 'BOXLITE_INVALID_STATE' });
    await box.start();
    const { commandsExecutedTotal, execErrorsTotal, bytesReceivedTotal } = await box.metrics();
    assert.deepEqual([commandsExecutedTotal, execErrorsTotal, bytesReceivedTotal], [0, 0, 0]);
  });

  test('of a box count its commands and their bytes', async () => {
    await box.run(shell('head -c 5000 /dev/zero; printf 12345 >&2'));
    await box.run(['/no/such/program']);
    const exec = await box.exec(['wc', '-c'], { stdin: true });
    exec.stdin.end(Buffer.alloc(777));
    assert.equal((await gather(exec.stdout)).toString(), '777\n');
    await exec.wait();
    const metrics = await box.metrics();
    assert.equal(metrics.commandsExecutedTotal, 2);
    assert.equal(metrics.execErrorsTotal, 1);
    assert.equal(metrics.bytesSentTotal, 777);
    assert.equal(metrics.bytesReceivedTotal, 5000 + 5 + 4);
  });

  test('of a box tell what it takes, and what it has', async () => {
    const { stages } = await box.inspect();
    const metrics = await box.metrics();
    assert.ok(metrics.machineMemoryBytes > MIB && metrics.machineMemoryBytes < 1024 * MIB);
    assert.equal(metrics.memoryBytes, metrics.machineMemoryBytes + metrics.supervisorMemoryBytes);
    assert.ok(metrics.machineCpuMs > 0 && metrics.cpuPercent >= 0);
    assert.ok(metrics.guestMemoryTotalBytes > 128 * MIB && metrics.guestMemoryTotalBytes <= 256 * MIB);
    assert.ok(metrics.guestMemoryAvailableBytes < metrics.guestMemoryTotalBytes);
    assert.ok(metrics.guestDiskSizeBytes > 256 * MIB && metrics.guestDiskSizeBytes <= 512 * MIB);
    assert.ok(metrics.guestDiskUsedBytes < metrics.guestDiskSizeBytes);
    assert.ok(metrics.guestProcesses > 1 && metrics.guestUptimeMs > 0);
    for (const load of ['guestLoad1', 'guestLoad5', 'guestLoad15']) assert.ok(metrics[load] >= 0, load);
    const took = stages.reduce((sum, { microseconds }) => sum + microseconds, 0) / 1000;
    assert.ok(Math.abs(metrics.totalCreateMs - took) < 1);
  });

  test('of a box are undefined where they are not available', async () => {
    const running = await box.metrics();
    const missing = (metrics) => Object.keys(metrics).filter((name) => metrics[name] === undefined);
    const network = missing(running);
    assert.ok(network.every((name) => name.startsWith('network')), network.join());
    assert.ok(Object.values(running).every((value) => value === undefined || value >= 0));
    await box.pause();
    const paused = missing(await box.metrics());
    const ofGuest = Object.keys(running).filter((name) => /^guest(Memory|Cpu|Load|Proc|Uptime|Disk)/.test(name));
    assert.deepEqual(paused.sort(), [...network, ...ofGuest].sort());
    await box.resume();
  });

  test('of a runtime tell what it has done', async () => {
    const other = await runtime.create(image);
    await other.start();
    const running = {
      boxesCreatedTotal: 2,
      boxesFailedTotal: 0,
      boxesStoppedTotal: 0,
      numRunningBoxes: 2,
      totalCommandsExecuted: 2,
      totalExecErrors: 1,
    };
    assert.deepEqual(await runtime.metrics(), running);
    await runtime.remove(other.id, { force: true });
    assert.deepEqual(await runtime.metrics(), { ...running, boxesStoppedTotal: 1, numRunningBoxes: 1 });
    const counted = runtime.counters();
    assert.deepEqual(
      [counted.boxesCreated, counted.boxesStopped, counted.boxesFailed, counted.commandsExecuted, counted.execErrors],
      [2, 1, 0, 2, 1],
    );
  });

  test('are there as text', async () => {
    const lines = (await runtime.metricsText()).split('\n');
    assert.equal(lines.pop(), '');
    assert.ok(lines.includes('boxlite_boxes_created_total 2'), lines.join('\n'));
    const labels = `{id="${box.id}",name="metered"}`;
    assert.ok(lines.includes(`boxlite_box_commands_executed_total${labels} 2`), lines.join('\n'));
    assert.ok(lines.every((line) => /^# (HELP|TYPE) boxlite_|^boxlite_\w+(\{.*\})? [-+.\de]+$/.test(line)));
  });

  test('can be aborted, and are refused after the end', async () => {
    const signal = AbortSignal.abort();
    for (const ask of [box.metrics({ signal }), runtime.metrics({ signal }), runtime.metricsText({ signal })])
      await assert.rejects(ask, { name: 'AbortError' });
    await box.stop({ graceMs: 0 });
    await assert.rejects(box.metrics(), { code: 'BOXLITE_INVALID_STATE' });
    assert.equal((await runtime.metrics()).numRunningBoxes, 0);
  });

  test('are those of the header, and declared', async () => {
    const header = fs.readFileSync(path.resolve(binding, '../../include/boxlite.h'), 'utf8');
    const declared = fs.readFileSync(path.join(binding, 'lib/index.d.ts'), 'utf8');
    const camelCase = (name) => name.toLowerCase().replace(/_(\w)/g, (_, letter) => letter.toUpperCase());
    const all = [...header.matchAll(/^ +BOXLITE_METRIC_(\w+) = (\d+),$/gm)];
    const names = (wanted) => all.filter(([, , number]) => wanted(Number(number))).map(([, name]) => camelCase(name));
    const fields = (name) => {
      const [, body] = declared.match(new RegExp(`^export interface ${name} \\{\n(.*?)^\\}`, 'ms'));
      return [...body.matchAll(/^  (\w+): number/gm)].map(([, field]) => field);
    };
    await box.start();
    const ofRuntime = names((number) => number < 100);
    assert.deepEqual(Object.keys(await runtime.metrics()), ofRuntime);
    assert.deepEqual(fields('RuntimeMetrics'), ofRuntime);
    const ofBox = names((number) => number >= 100);
    assert.deepEqual(Object.keys(await box.metrics()), ofBox);
    assert.deepEqual(fields('BoxMetrics'), ofBox);
    const counters = [...header.matchAll(/^ +BOXLITE_COUNTER_(\w+) = \d+,$/gm)].map(([, name]) => camelCase(name));
    assert.deepEqual(Object.keys(runtime.counters()).sort(), counters.sort());
    assert.deepEqual(fields('Counters').sort(), counters);
  });
});
