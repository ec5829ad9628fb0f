// Opens pages in headless Chromium: node look.mjs URL WIDTH... prints one line of JSON for each width.
// BROWSER is a folder with the packages @sparticuz/chromium and puppeteer-core in its node_modules.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(process.env.BROWSER + "/");
const load = async (name) => (await import(pathToFileURL(require.resolve(name)))).default;
const [chromium, puppeteer] = [await load("@sparticuz/chromium"), await load("puppeteer-core")];
const [url, ...widths] = process.argv.slice(2);

const executablePath = await chromium.executablePath();
const browser = await puppeteer.launch({ args: chromium.args, executablePath, headless: "shell" });
const page = await browser.newPage();
let said = [];
page.on("console", (message) => said.push(`${message.type()}: ${message.text()}`));
page.on("pageerror", (error) => said.push(`error: ${error.message}`));
page.on("request", (request) => request.url() === url || said.push(`asks for ${request.url().slice(0, 60)}`));
for (const width of widths.map(Number)) {
  said = [];
  await page.setViewport({ width, height: 900 });
  await page.goto(url, { waitUntil: "load" });
  const seen = await page.evaluate(() => ({
    width: document.documentElement.scrollWidth,
    text: document.body.innerText,
    smallest: Math.min(...[...document.querySelectorAll("p, td")].map((e) => parseFloat(getComputedStyle(e).fontSize))),
    pictures: [...document.querySelectorAll("svg")].map((e) => e.getBoundingClientRect().width),
    dead: [...document.querySelectorAll("a[href^='#']")].filter((e) => !document.querySelector(e.hash)).length,
  }));
  console.log(JSON.stringify({ ...seen, said }));
}
await browser.close();
