'use strict';

const assert = require('node:assert/strict');
const { execFile, spawn } = require('node:child_process');
const { createHash, randomBytes } = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { promisify } = require('node:util');
const { binding, gather, image, newHome, removeHome } = require('./helpers');

const examples = path.resolve(binding, '../../examples/node');

// Runs a program in a home of its own.
async function run(t, program, args, { input = '', cwd } = {}) {
  const home = newHome();
  t.after(() => removeHome(home));
  const env = { ...process.env, BOXLITE_HOME: home };
  const child = spawn(process.execPath, [program, ...args], { cwd, env, timeout: 60_000 });
  child.stdin.on('error', () => {}).end(input);
  const [stdout, stderr, code] = await Promise.all([
    gather(child.stdout),
    gather(child.stderr),
    new Promise((resolve) => child.on('close', resolve)),
  ]);
  return { code, stdout, stderr: stderr.toString() };
}

test('hello.js prints what a command prints, and ends as it ends', async (t) => {
  const hello = path.join(examples, 'hello.js');
  const { code, stdout, stderr } = await run(t, hello, [image, 'sh', '-c', 'echo hello; echo err >&2; exit 3']);
  assert.equal(code, 3);
  assert.equal(stdout.toString(), 'hello\n');
  assert.match(stderr, /^start: restore +[\d.]+ ms$/m);
  assert.match(stderr, /^err$/m);
  assert.match(stderr, /^hello: exit code 3$/m);
});

test('hello.js says what is wrong', async (t) => {
  const { code, stderr } = await run(t, path.join(examples, 'hello.js'), ['/no/such/image', 'true']);
  assert.equal(code, 125);
  assert.match(stderr, /^BOXLITE_IMAGE: .*\/no\/such\/image/m);
});

test('stream.js carries stdin through a command to stdout', async (t) => {
  const input = randomBytes(3_000_000);
  const { code, stdout, stderr } = await run(t, path.join(examples, 'stream.js'), [image, '60000', 'sha256sum'], { input });
  assert.equal(stderr, '');
  assert.equal(code, 0);
  assert.equal(stdout.toString(), `${createHash('sha256').update(input).digest('hex')}  -\n`);
});

test('stream.js ends a command that takes too long', async (t) => {
  const { code, stderr } = await run(t, path.join(examples, 'stream.js'), [image, '500', 'sleep', '1000']);
  assert.equal(stderr, 'stream: not done after 500 ms\n');
  assert.equal(code, 124);
});

test("the README's example prints what it should", async (t) => {
  const [, script] = fs.readFileSync(path.join(binding, 'README.md'), 'utf8').match(/^```js\n(.*?)^```$/ms);
  const directory = newHome();
  t.after(() => fs.rmSync(directory, { recursive: true }));
  fs.mkdirSync(path.join(directory, 'node_modules'));
  fs.mkdirSync(path.join(directory, 'build'));
  fs.symlinkSync(binding, path.join(directory, 'node_modules/boxlite'));
  fs.symlinkSync(path.dirname(image), path.join(directory, 'build/images'));
  fs.writeFileSync(path.join(directory, 'example.js'), script);
  const { code, stdout, stderr } = await run(t, 'example.js', [], { cwd: directory });
  assert.equal(stderr, '');
  assert.equal(stdout.toString(), 'Linux x86_64\n1\n2\n3\nexit code 3\n');
  assert.equal(code, 0);
});

test('the declarations fit a program that uses them', async () => {
  const tsc = require.resolve('typescript/bin/tsc');
  const options = ['--noEmit', '--strict', '--skipLibCheck', '--target', 'es2022', '--module', 'node16', '--types', 'node'];
  await promisify(execFile)(process.execPath, [tsc, ...options, path.join(__dirname, 'types.ts')], {
    cwd: binding,
  }).catch((error) => assert.fail(error.stdout));
});

test('the declarations name what there is', () => {
  const boxlite = require('..');
  const declared = fs.readFileSync(path.join(binding, 'lib/index.d.ts'), 'utf8');
  const names = [...declared.matchAll(/^export (?:class|const|function) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(Object.keys(boxlite).sort(), names.sort());
});
