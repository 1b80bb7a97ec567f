// Compiled, never run: uses every declaration as a program would.
import { pipeline } from 'node:stream/promises';
import { BoxliteError, Runtime, version } from '..';
import type { Box, BoxEvent, BoxInfo, BoxMetrics, BoxOptions, CloneOptions, ClonesOptions, Counters } from '..';
import type { EventKind, EventStream, Exec, ExecInfo, ExitStatus, ExportOptions, HealthCheck, ImportOptions } from '..';
import type { ListFilter, MainInfo, Output, Progress, RuntimeMetrics, Snapshot, StoredFile } from '..';

export async function main(signal: AbortSignal): Promise<string> {
  const runtime = new Runtime({
    home: '/tmp/home',
    accelerator: 'tcg',
    templateAgeS: 3600,
    templatesMib: 1024,
    diskTemplates: false,
    pool: { machines: 2, cpus: 1, memoryMib: 256, image: 'image', diskSizeMib: 64 },
  });
  const counters: Counters = runtime.counters();
  const ready: number = runtime.poolReady();
  const options: BoxOptions = { name: 'a', labels: { a: '1' }, cpus: 2, env: { ...process.env }, coldBoot: true };
  const box: Box = await runtime.create('image', { ...options, signal });
  await box.start({ signal });
  const exec: Exec = await box.exec(['cat'], { stdin: true, user: 'app', signal });
  await pipeline(process.stdin, exec.stdin!);
  await pipeline(exec.stdout, process.stdout);
  await exec.kill('SIGKILL');
  await exec.kill(9);
  const status: ExitStatus = await exec.wait();
  const output: Output = await box.run(['true'], { limit: 10 });
  const bytes: Buffer = output.stdout;
  const list: BoxInfo[] = await runtime.list();
  const filter: ListFilter = { status: ['running', 'paused'], labels: { a: '1', b: true }, namePrefix: 'a', image: 'i' };
  const [running]: BoxInfo[] = await runtime.list({ ...filter, status: 'running', signal });
  const label: string | undefined = running.labels.a;
  const cold: boolean = list[0].boot === 'cold';
  await lives(runtime, signal);
  const year: number = list[0].createdAt.getFullYear();
  try {
    await (await runtime.get(box.id)).stop({ graceMs: 10 });
  } catch (error) {
    if (error instanceof BoxliteError && error.retryable) console.log(error.code, error.status);
  }
  // @ts-expect-error: no such option
  await runtime.create('image', { memory: 512 });
  await hears(runtime, signal);
  await measures(runtime, box, signal);
  await keeps(box, signal);
  await copies(box, signal);
  await moves(runtime, box, signal);
  await takesSpace(runtime, box, signal);
  // @ts-expect-error: no such status
  await runtime.list({ status: 'ended' });
  // @ts-expect-error: no such option of a pool
  new Runtime({ pool: { size: 1 } });
  // @ts-expect-error: not for programs
  new (await import('..')).Box();
  await runtime.remove(box.id, { force: true });
  await runtime.shutdown();
  runtime.close();
  return `${version} ${status.signal} ${bytes.length} ${year} ${box.name} ${cold} ${ready} ${counters.detours} ${label}`;
}

async function lives(runtime: Runtime, signal: AbortSignal): Promise<void> {
  const healthCheck: HealthCheck = { argv: ['true'], intervalMs: 100, timeoutMs: 100, retries: 2, startPeriodMs: 1 };
  const box = await runtime.create('image', {
    autoRemove: true,
    idleStopS: 1,
    healthCheck,
    main: [],
    mainExit: 'stay',
    detach: true,
    spoolBytes: 4096,
  });
  await box.pause({ signal });
  await box.resume({ signal });
  const info: BoxInfo = await box.inspect();
  const main: MainInfo | null = info.main;
  const healthy: boolean = info.health === 'healthy' && info.healthFailures === 0 && main?.status === 'exited';
  const checked: number | undefined = info.lastCheck?.getTime();
  const detached: Exec = await box.exec(['true'], { detach: true });
  const [listed]: ExecInfo[] = await box.listExecs({ signal });
  const followed: Exec = await box.attach(detached.id, { stdoutFrom: listed.stdoutFirst, signal });
  followed.stdout.on('gap', (bytes: number) => console.log(bytes, followed.stdout.offset, followed.stdout.lost));
  followed.stdout.on('data', (chunk: Buffer) => console.log(chunk, healthy, checked));
  await pipeline((await box.attachMain()).stderr, process.stderr);
  // @ts-expect-error: no such end
  await runtime.create('image', { mainExit: 'restart' });
}

async function measures(runtime: Runtime, box: Box, signal: AbortSignal): Promise<string> {
  const { boxesCreatedTotal }: RuntimeMetrics = await runtime.metrics({ signal });
  const metrics: BoxMetrics = await box.metrics({ signal });
  const processes: number | undefined = metrics.guestProcesses;
  // @ts-expect-error: it may not be available
  const percent: number = metrics.cpuPercent;
  return `${await runtime.metricsText({ signal })} ${boxesCreatedTotal} ${processes} ${percent}`;
}

async function keeps(box: Box, signal: AbortSignal): Promise<string> {
  const { createdAt, virtualBytes }: Snapshot = await box.createSnapshot('first', { signal });
  const all: Snapshot[] = await box.listSnapshots({ signal });
  const found: Snapshot | null = await box.getSnapshot('first', { signal });
  await box.restoreSnapshot('first', { signal });
  await box.removeSnapshot('first', { signal });
  // @ts-expect-error: there may be none
  const bytes: number = (await box.getSnapshot('first')).allocatedBytes;
  // @ts-expect-error: not without a name
  await box.createSnapshot();
  const parent: string | null | undefined = found?.parent;
  return `${createdAt.getTime()} ${virtualBytes + bytes} ${all[0].id} ${all[0].boxId} ${all[0].name} ${parent}`;
}

async function copies(box: Box, signal: AbortSignal): Promise<string> {
  const options: CloneOptions = { snapshot: 'first', name: box.name };
  const one: Box = await box.clone({ ...options, signal });
  const named: ClonesOptions = { names: ['a', null, undefined] };
  const [first]: Box[] = await box.clones({ ...named, snapshot: 'first', signal });
  const many: Box[] = await (await box.clone()).clones({ count: 10 });
  // @ts-expect-error: how many
  await box.clones({ snapshot: 'first' });
  // @ts-expect-error: either the one or the other
  await box.clones({ names: ['a'], count: 1 });
  // @ts-expect-error: one has one name
  await box.clone({ names: ['a'] });
  return `${one.id} ${first.id} ${many.length}`;
}

async function moves(runtime: Runtime, box: Box, signal: AbortSignal): Promise<string> {
  const all: Progress[] = [];
  const onProgress = (progress: Progress) => void all.push(progress);
  const options: ExportOptions = { snapshot: 'first' };
  const path: string = await box.export('directory', { ...options, signal, onProgress });
  await (await runtime.import(path)).export('file', { withSnapshots: true });
  const wanted: ImportOptions = { name: null, trusted: false };
  const made: Box = await runtime.import(path, { ...wanted, signal, onProgress });
  // @ts-expect-error: either the one or the other
  await box.export('file', { snapshot: 'first', withSnapshots: true });
  // @ts-expect-error: null is no snapshot
  await box.export('file', { snapshot: null });
  // @ts-expect-error: not without a path
  await box.export();
  return `${made.id} ${all[0].bytesDone / all[0].bytesTotal}`;
}

async function hears(runtime: Runtime, signal: AbortSignal): Promise<void> {
  const events: EventStream = runtime.events({ capacity: 16, signal }).unref();
  const kinds: EventKind[] = [];
  events.on('data', ({ kind, lost }: BoxEvent) => kinds.push(lost > 0 ? 'overflow' : kind));
  events.once('end', () => console.log(events.ref().read()?.time.getTime()));
  for await (const event of runtime.events()) {
    const code: number | null = event.kind === 'execEnded' ? event.code : null;
    console.log(event.boxId, event.boxName, event.text, event.microseconds, event.execId, event.signal, code);
    // @ts-expect-error: no such kind
    if (event.kind === 'boxEnded') break;
  }
  // @ts-expect-error: no such option
  runtime.events({ kinds });
}

async function takesSpace(runtime: Runtime, box: Box, signal: AbortSignal): Promise<void> {
  const made: Box = await runtime.createFromDisk('disk', { format: 'raw', name: 'a', diskSizeMib: 100, signal });
  // @ts-expect-error: no format
  await runtime.createFromDisk('disk', {});
  // @ts-expect-error: no such format
  await runtime.createFromDisk('disk', { format: 'vmdk' });
  await box.growDisk(200, { signal });
  const files: StoredFile[] = await runtime.listFiles({ signal });
  const [pruned]: StoredFile[] = await runtime.prune({ dryRun: true, signal });
  // @ts-expect-error: no such kind
  if (pruned.kind === 'disk') made.close();
  console.log(files[0].path, files[0].boxId?.length, files[0].name, files[0].virtualBytes + files[0].allocatedBytes);
}
