/** Sends Plugin.Activate, as Docker does. */
import { readFileSync } from 'node:fs';
import { type IncomingMessage, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import type { Activated, PluginAddress } from './checks/plugin.ts';

const ANSWER_MS_MAX = 10_000;
const ANSWER_CHARS_MAX = 65_536;

/** Never throws. */
export const activate = async ({ url, tls }: PluginAddress): Promise<Activated> => {
  try {
    return await exchange(url, tls);
  } catch (error) {
    const { code, message } = error as { code?: string; message?: string };
    return { why: code ?? message ?? 'it cannot be reached' };
  }
};

const exchange = (url: string, tls: PluginAddress['tls']): Promise<Activated> =>
  new Promise((resolve, reject) => {
    const options = { method: 'POST', agent: false as const, headers: { 'content-length': 0 } };
    const read = (path: string | null | undefined) => (path == null ? undefined : readFileSync(path));
    const answered = (response: IncomingMessage) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => {
        text += part;
        if (text.length <= ANSWER_CHARS_MAX) return;
        reject(new Error('the answer is too long')); // on Bun and Deno the end of a long answer may come all the same
        sent.destroy();
      });
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    };
    const path = '/Plugin.Activate';
    const sent = url.startsWith('unix://')
      ? requestHttp({ ...options, socketPath: url.slice('unix://'.length), path }, answered)
      : url.startsWith('https:')
        ? requestHttps(
            `${url}${path}`,
            // Docker does not check the server's certificate where the spec names no authority.
            {
              ...options,
              ca: read(tls?.ca),
              cert: read(tls?.cert),
              key: read(tls?.key),
              rejectUnauthorized: tls?.ca != null,
            },
            answered,
          )
        : requestHttp(`${url}${path}`, options, answered);
    const timer = setTimeout(
      () => sent.destroy(new Error(`no answer within ${ANSWER_MS_MAX / 1000} s`)),
      ANSWER_MS_MAX,
    );
    sent.on('error', reject);
    sent.on('close', () => {
      clearTimeout(timer);
      reject(new Error('the connection was lost'));
    });
    sent.end();
  });
