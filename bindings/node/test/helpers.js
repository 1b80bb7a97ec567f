'use strict';

const assert = require('node:assert/strict');
const { execFile } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const { Runtime } = require('..');

const image = path.join(process.env.BOXLITE_TEST_IMAGES, 'busybox');
const binding = path.resolve(__dirname, '..');

function newHome() {
  return fs.mkdtempSync(path.join(os.tmpdir(), 'boxlite-node-'));
}

// The processes that have a home on their command line: its machines.
function machines(home) {
  return fs.readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      const [program] = fs.readFileSync(`/proc/${pid}/comm`, 'utf8').split('\n');
      return program !== 'node' && fs.readFileSync(`/proc/${pid}/cmdline`).includes(home);
    } catch {
      return false; // it has ended just now
    }
  });
}

// Waits, with a limit that only guards against hanging.
async function eventually(condition, what) {
  for (let i = 0; i < 600; i++) {
    if (await condition()) return;
    await sleep(50);
  }
  assert.fail(`never true: ${what}`);
}

// The supervisors that have files of a home open: they write down how a machine ended when it is gone.
function supervisors(home) {
  return fs.readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      if (fs.readFileSync(`/proc/${pid}/comm`, 'utf8') !== 'boxlite-shim\n') return false;
      const files = fs.readdirSync(`/proc/${pid}/fd`);
      return files.some((fd) => fs.readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith(home));
    } catch (error) {
      // One that closes files, or ends, is looked at again.
      return fs.existsSync(`/proc/${pid}/fd`) && error.code === 'ENOENT';
    }
  });
}

// Sees that nothing runs, and removes a home.
async function removeHome(home) {
  await eventually(() => machines(home).length === 0, 'no machine is left');
  await eventually(() => supervisors(home).length === 0, 'no supervisor is left');
  fs.rmSync(home, { recursive: true });
}

// A runtime in a home of its own, that goes with the test or the suite.
function openRuntime(t, options = {}) {
  const home = newHome();
  const runtime = new Runtime({ home, ...options });
  t.after(async () => {
    await runtime.shutdown({ graceMs: 0 });
    runtime.close();
    await removeHome(home);
  });
  return { runtime, home };
}

async function gather(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

const shell = (script) => ['sh', '-c', script];

// How many processes of this name run in a box.
async function processes(box, name) {
  const { stdout } = await box.run(shell('cat /proc/[0-9]*/comm'));
  return stdout.toString().split('\n').filter((line) => line === name).length;
}

// Runs a script in a node of its own, which has `home`, `image`, `boxlite` and `sleep`.
function runScript(t, script, options = []) {
  const home = newHome();
  t.after(() => removeHome(home));
  const head = `
    const boxlite = require(${JSON.stringify(binding)});
    const { setTimeout: sleep } = require('node:timers/promises');
    const home = ${JSON.stringify(home)};
    const image = ${JSON.stringify(image)};
    const { machines } = require(${JSON.stringify(__filename)});
  `;
  return new Promise((resolve) => {
    const args = [...options, '-e', `${head}(async () => {${script}})();`];
    execFile(process.execPath, args, { timeout: 60_000 }, (error, stdout, stderr) => {
      resolve({ code: error ? error.code : 0, stdout, stderr });
    });
  });
}

module.exports = {
  binding,
  eventually,
  gather,
  image,
  machines,
  newHome,
  openRuntime,
  processes,
  removeHome,
  runScript,
  shell,
};
