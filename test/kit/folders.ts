/** Folders of a test's own. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const tempFolder = (): string => mkdtempSync(join(tmpdir(), 'ec2-ipam-test-'));
export const removeFolder = (folder: string): void => rmSync(folder, { recursive: true, force: true });
