// Opens pages in headless Chromium: node look.mjs URL... WIDTH... prints one line of JSON for each page and width.
// BROWSER is a folder with the packages @sparticuz/chromium and puppeteer-core in its node_modules.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(process.env.BROWSER + "/");
const load = async (name) => (await import(pathToFileURL(require.resolve(name)))).default;
const [chromium, puppeteer] = [await load("@sparticuz/chromium"), await load("puppeteer-core")];
const words = process.argv.slice(2);
const [urls, widths] = [words.filter((word) => isNaN(word)), words.filter((word) => !isNaN(word)).map(Number)];

const executablePath = await chromium.executablePath();
const browser = await puppeteer.launch({ args: chromium.args, executablePath, headless: "shell" });
const page = await browser.newPage();
let [url, said] = ["", []];
page.on("console", (message) => said.push(`${message.type()}: ${message.text()}`));
page.on("pageerror", (error) => said.push(`error: ${error.message}`));
page.on("request", (request) => request.url() === url || said.push(`asks for ${request.url().slice(0, 60)}`));
for (url of urls) {
  for (const width of widths) {
    said = [];
    await page.setViewport({ width, height: 900 });
    await page.goto(url, { waitUntil: "load" });
    // A page of the site that is asked to search: the result comes later, from a worker.
    if (url.includes("?q=")) await page.waitForSelector(".md-search-result__item", { timeout: 20000 });
    const seen = await page.evaluate(() => ({
      width: document.documentElement.scrollWidth,
      text: document.body.innerText,
      smallest: Math.min(...[...document.querySelectorAll("p, td")].map((e) => parseFloat(getComputedStyle(e).fontSize))),
      pictures: [...document.querySelectorAll("svg")].map((e) => e.getBoundingClientRect().width),
      dead: [...document.querySelectorAll("a[href^='#']")]
        .filter((e) => e.hash && !document.getElementById(decodeURIComponent(e.hash.slice(1)))).length,
    }));
    console.log(JSON.stringify({ ...seen, said, url, asked: width }));
  }
}
await browser.close();
