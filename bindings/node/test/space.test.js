// The files of disks, and disks that grow or were made elsewhere.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { image, openRuntime, shell } = require('./helpers');

const MIB = 1024 * 1024;

// Runs a script in a box, which is started first if it does not run, and compares its output.
async function says(box, script, wanted) {
  const { code, stdout, stderr } = await box.run(shell(script));
  assert.deepEqual([stdout.toString(), code], [wanted, 0], `${script}: ${stderr}`);
}

test('disks grow, files are listed and pruned, and disks made elsewhere are taken', async (t) => {
  const { runtime, home } = openRuntime(t);
  const box = await runtime.create(image, { diskSizeMib: 64 });
  await says(box, 'echo kept > /file; sync', '');
  await assert.rejects(box.growDisk(500), { code: 'BOXLITE_INVALID_STATE', message: /stop it first/ });
  await box.stop();
  await assert.rejects(box.growDisk(64), { code: 'BOXLITE_INVALID_ARGUMENT', message: /64 MiB/ });
  for (const size of [undefined, -1, 1.5, '500']) {
    await assert.rejects(box.growDisk(size), { code: 'BOXLITE_INVALID_ARGUMENT', object: 'sizeMib' }, size);
  }
  await box.growDisk(500);
  await says(box, "cat /file; df -m / | awk 'NR == 2 { print ($2 > 400) }'", 'kept\n1\n');
  await box.stop();
  await box.createSnapshot('kept');

  const files = await runtime.listFiles();
  const kinds = Object.fromEntries(files.map((file) => [file.kind, file]));
  assert.deepEqual(Object.keys(kinds).sort(), ['box', 'image', 'snapshot']);
  assert.deepEqual(Object.keys(files[0]), ['kind', 'path', 'boxId', 'name', 'virtualBytes', 'allocatedBytes']);
  assert.deepEqual([kinds.box.virtualBytes, kinds.box.boxId, kinds.box.name], [500 * MIB, box.id, null]);
  assert.deepEqual([kinds.snapshot.name, kinds.snapshot.boxId, kinds.image.boxId], ['kept', box.id, null]);
  assert.ok(kinds.image.allocatedBytes > 0);

  const lost = path.join(home, 'bases', 'lost.qcow2');
  fs.writeFileSync(lost, 'nothing');
  for (const [dryRun, count] of [[true, 1], [false, 1], [undefined, 0]]) {
    const pruned = await runtime.prune({ dryRun });
    assert.deepEqual(pruned.map(({ kind, path }) => [kind, path]), Array(count).fill(['orphan', 'bases/lost.qcow2']));
  }
  assert.ok(!fs.existsSync(lost));
  await assert.rejects(runtime.prune({ dryRun: 1 }), { code: 'BOXLITE_INVALID_ARGUMENT', object: 'dryRun' });

  // Here, an image's disk.
  const disk = path.join(home, kinds.image.path);
  const copy = await runtime.createFromDisk(disk, { format: 'raw', name: 'copy' });
  await says(copy, 'echo works', 'works\n');
  await copy.stop();
  await assert.rejects(runtime.createFromDisk(disk, { format: 'qcow2' }), { code: 'BOXLITE_STORAGE', message: /magic/ });
  for (const options of [undefined, {}, { format: 'vmdk' }, { format: 1 }]) {
    const refused = { code: 'BOXLITE_INVALID_ARGUMENT', object: 'format' };
    await assert.rejects(runtime.createFromDisk(disk, options), refused);
  }
  await assert.rejects(runtime.createFromDisk(`${disk}.none`, { format: 'raw' }), { code: 'BOXLITE_NOT_FOUND' });
  assert.deepEqual((await runtime.list()).map(({ name }) => name).sort(), ['copy', null].sort());
});
