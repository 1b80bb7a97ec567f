// What the binding does to the process it lives in.
'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { binding, runScript } = require('./helpers');

test('a process with an idle runtime and a running box ends by itself', async (t) => {
  const { code, stdout, stderr } = await runScript(
    t,
    `const runtime = new boxlite.Runtime({ home });
     const box = await runtime.create(image);
     await box.start();
     const exec = await box.exec(['sleep', '1000']);
     globalThis.kept = { runtime, box, exec };
     console.log(machines(home).length > 0);`,
  );
  assert.equal(stderr, '');
  assert.equal(stdout, 'true\n');
  assert.equal(code, 0);
});

test('a process stays while it waits for a command', async (t) => {
  const { code, stdout } = await runScript(
    t,
    `const box = await new boxlite.Runtime({ home }).create(image);
     const exec = await box.exec(['sh', '-c', 'sleep 1; echo late; exit 5']);
     exec.stdout.pipe(process.stdout);
     process.exitCode = (await exec.wait()).code;`,
  );
  assert.equal(stdout, 'late\n');
  assert.equal(code, 5);
});

test('what is dropped is freed with the garbage, and its box stops', async (t) => {
  const { code, stdout, stderr } = await runScript(
    t,
    `async function use() {
       const box = await new boxlite.Runtime({ home }).create(image);
       await box.start();
       const exec = await box.exec(['sh', '-c', 'echo on; sleep 1000'], { stdin: true });
       for await (const chunk of exec.stdout) break;
       const { stdout } = await box.run(['echo', 'ran']);
       return stdout.toString();
     }
     process.stdout.write(await use());
     const descriptors = () => require('node:fs').readdirSync('/proc/self/fd').length;
     const before = descriptors();
     for (let i = 0; i < 500 && machines(home).length > 0; i++) {
       global.gc();
       await sleep(20);
     }
     console.log(machines(home).length, descriptors() < before);`,
    ['--expose-gc'],
  );
  assert.equal(stderr, '');
  assert.equal(stdout, 'ran\n0 true\n');
  assert.equal(code, 0);
});

test('what a listener throws is an uncaught exception, and everything goes on', async (t) => {
  const { code, stdout, stderr } = await runScript(
    t,
    `process.on('uncaughtException', (error) => console.log('uncaught', error.message));
     const box = await new boxlite.Runtime({ home }).create(image);
     await box.start();
     const exec = await box.exec(['sh', '-c', 'echo a; sleep 0.5; echo b; sleep 0.5; echo c; exit 4']);
     exec.stdout.on('data', (chunk) => {
       throw new Error(chunk.toString().trim());
     });
     console.log((await exec.wait()).code);
     console.log((await box.run(['echo', 'after'])).stdout.toString().trim());`,
  );
  assert.equal(stderr, '');
  assert.equal(stdout, 'uncaught a\nuncaught b\nuncaught c\n4\nafter\n');
  assert.equal(code, 0);
});

test('what a listener throws ends a process that does not listen', async (t) => {
  const { code, stderr } = await runScript(
    t,
    `const box = await new boxlite.Runtime({ home }).create(image);
     const exec = await box.exec(['sh', '-c', 'sleep 0.3; echo a; sleep 1000']);
     exec.stdout.on('data', () => { throw new Error('thrown in a listener'); });
     await exec.wait();`,
  );
  assert.equal(code, 1);
  assert.match(stderr, /Error: thrown in a listener/);
});

test('a listener may end the process', async (t) => {
  const { code, stderr } = await runScript(
    t,
    `const box = await new boxlite.Runtime({ home }).create(image);
     const exec = await box.exec(['sh', '-c', 'echo a; sleep 1000']);
     exec.stdout.on('data', () => process.exit(7));
     await exec.wait();`,
  );
  assert.equal(stderr, '');
  assert.equal(code, 7);
});

test('workers have runtimes of their own, also on one home', async (t) => {
  const { code, stdout, stderr } = await runScript(
    t,
    `const { Worker } = require('node:worker_threads');
     const { once } = require('node:events');
     const script = \`
       const { parentPort, workerData: { binding, home, image } } = require('node:worker_threads');
       (async () => {
         const boxlite = require(binding);
         const box = await new boxlite.Runtime({ home }).create(image);
         const { stdout } = await box.run(['echo', 'worker']);
         const exec = await box.exec(['sh', '-c', 'while :; do echo on; done']);
         globalThis.kept = exec;
         exec.stdout.once('data', () => parentPort.postMessage(stdout.toString().trim()));
         await exec.wait();
       })();
     \`;
     const workerData = { binding: ${JSON.stringify(binding)}, home, image };
     const workers = [1, 2].map(() => new Worker(script, { eval: true, workerData }));
     const runtime = new boxlite.Runtime({ home });
     for (const [message] of await Promise.all(workers.map((w) => once(w, 'message'))))
       console.log(message);
     console.log((await runtime.list()).length);
     await Promise.all(workers.map((w) => w.terminate()));
     for (let i = 0; i < 500 && machines(home).length > 0; i++) await sleep(20);
     console.log(machines(home).length);`,
  );
  assert.equal(stderr, '');
  assert.equal(stdout, 'worker\nworker\n2\n0\n');
  assert.equal(code, 0);
});

test('workers may be terminated at any moment', async (t) => {
  const { code, stdout, stderr } = await runScript(
    t,
    `const { Worker } = require('node:worker_threads');
     const { once } = require('node:events');
     const script = \`
       const { parentPort, workerData } = require('node:worker_threads');
       const { binding, home, image, id, own } = workerData;
       const { setTimeout: sleep } = require('node:timers/promises');
       const boxlite = require(binding);
       const runtime = new boxlite.Runtime({ home });

       // Operations under way, of all outcomes.
       async function operate(box) {
         for (;;) {
           const abort = new AbortController();
           setTimeout(() => abort.abort(), Math.random() * 100);
           try {
             await box.inspect();
             await runtime.list({ signal: abort.signal });
             await box.run(['echo', 'ran'], { signal: abort.signal });
           } catch (error) {
             if (error.name !== 'AbortError') throw error;
           }
           await sleep(100);
         }
       }

       // Streams in both directions, which wait again and again.
       async function echo(box) {
         const exec = await box.exec(['cat'], { stdin: true });
         exec.stdout.resume();
         const chunk = Buffer.alloc(100_000);
         const write = () => exec.stdin.write(chunk, write);
         write();
         await exec.wait();
       }

       async function stream(box) {
         const exec = await box.exec(['sh', '-c', 'while :; do echo on; done']);
         exec.stdout.once('data', () => parentPort.postMessage('streams'));
         exec.stdout.resume();
         await exec.wait();
       }

       // A box of this worker's own, which ends with it.
       async function start() {
         const box = await runtime.create(image);
         await box.start();
         await stream(box);
       }

       (async () => {
         const box = await runtime.get(id);
         await Promise.all([operate(box), echo(box), stream(box), own && start()]);
       })();
     \`;

     const runtime = new boxlite.Runtime({ home });
     const box = await runtime.create(image);
     await box.start();
     const before = machines(home).length;
     const data = { binding: ${JSON.stringify(binding)}, home, image, id: box.id };
     for (let round = 0; round < 20; round++) {
       // Few have a box of their own: those are slow to start.
       const workers = [round % 4 === 1, false].map((own) =>
         new Worker(script, { eval: true, workerData: { ...data, own } }));
       await Promise.all(workers.map(async (worker) => {
         // Every fourth round also while it loads, opens and gets.
         if (round % 4 > 0) await once(worker, 'message');
         await sleep(Math.random() * (round % 4 > 0 ? 50 : 300));
         await worker.terminate();
       }));
     }
     for (let i = 0; i < 500 && machines(home).length > before; i++) await sleep(20);
     console.log(machines(home).length - before);
     console.log((await box.run(['echo', 'still'])).stdout.toString().trim());
     await runtime.remove(box.id, { force: true });
     for (let i = 0; i < 500 && machines(home).length > 0; i++) await sleep(20);
     console.log(machines(home).length);`,
  );
  assert.equal(stderr, '');
  assert.equal(stdout, '0\nstill\n0\n');
  assert.equal(code, 0);
});
